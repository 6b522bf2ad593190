package resource

import (
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var (
	policyV1         = policyv1.SchemeGroupVersion
	authenticationV1 = authenticationv1.SchemeGroupVersion
)

// Internal are kinds that are stored, but not offered by the API.
var Internal = []*Kind{NodePort, MasterLease}

// Kinds are all resources that are stored, in the order in which discovery
// tells them (the order kubectl tries for a short name).
var Kinds = []*Kind{
	ConfigMap, Endpoints, Event, Namespace, Node, Pod, ReplicationController, Secret, ServiceAccount, Service,
	APIService,
	ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
	EventsEvent,
	Job,
	CertificateSigningRequest,
	IngressClass, Ingress, IPAddress, NetworkPolicy, ServiceCIDR,
	PodDisruptionBudget,
	ClusterRoleBinding, ClusterRole, RoleBinding, Role,
	PriorityClass,
	Lease,
	EndpointSlice,
}

// NewScheme maps kinds to Go types: those that are stored, and those that only
// appear in requests (DeleteOptions, Scale, TokenReview, …).
func NewScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, autoscalingv1.AddToScheme, batchv1.AddToScheme, certificatesv1.AddToScheme, eventsv1.AddToScheme, coordinationv1.AddToScheme,
		discoveryv1.AddToScheme, networkingv1.AddToScheme, rbacv1.AddToScheme, schedulingv1.AddToScheme, policyv1.AddToScheme,
		authenticationv1.AddToScheme, authorizationv1.AddToScheme, apiregistrationv1.AddToScheme, metav1.AddMetaToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	return scheme
}
