// The KMS client of kube-apiserver 1.33.
package main

import client "atrest.test/control-plane/kms-client"

func main() {
	client.Main()
}
