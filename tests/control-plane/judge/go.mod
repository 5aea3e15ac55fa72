// What the judges of all releases share; each of them chooses its own release of these modules.
module atrest.test/control-plane/judge

go 1.26.0

require (
	k8s.io/apimachinery v0.27.3
	k8s.io/apiserver v0.27.3
	k8s.io/component-base v0.27.3
	k8s.io/klog/v2 v2.90.1
)
