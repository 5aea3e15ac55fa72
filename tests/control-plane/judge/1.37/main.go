// The judge of kube-apiserver 1.37.
package main

import (
	"context"

	"k8s.io/apiserver/pkg/server/options/encryptionconfig"

	"atrest.test/control-plane/judge"
)

func main() {
	judge.Main(func(ctx context.Context, path string, reload bool) error {
		_, err := encryptionconfig.LoadEncryptionConfig(ctx, path, reload, "judge")
		return err
	})
}
