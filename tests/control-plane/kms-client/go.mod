// What the clients of all releases have in common.
module atrest.test/control-plane/kms-client

go 1.26.0

require (
	golang.org/x/net v0.8.0
	google.golang.org/grpc v1.51.0
	k8s.io/apiserver v0.27.3
	k8s.io/kms v0.27.3
)
