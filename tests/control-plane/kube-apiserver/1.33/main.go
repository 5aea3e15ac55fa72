// kube-apiserver as upstream builds it, with one change: the interval at which
// it polls its EncryptionConfiguration can be set for tests.
package main

import (
	"os"
	"time"

	"k8s.io/apiserver/pkg/server/options/encryptionconfig/controller"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if value := os.Getenv("ATREST_TEST_RELOAD_POLL"); value != "" {
		poll, err := time.ParseDuration(value)
		if err != nil || poll <= 0 {
			os.Stderr.WriteString("ATREST_TEST_RELOAD_POLL: not a positive Go duration\n")
			os.Exit(2)
		}
		controller.EncryptionConfigFileChangePollDuration = poll
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
