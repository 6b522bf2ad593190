package resource

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

const (
	namesText  = "Names of each container in the template."
	imagesText = "Images referenced by each container in the template."
)

// columnTexts explain the columns of tables, by plural and column. kubectl does not
// print them; who makes tables of its own for people does. Most are what the types
// say of the field.
var columnTexts = map[string]map[string]string{
	"apiservices": {
		"Service":   "The reference to the service that hosts this API endpoint.",
		"Available": "Whether this service is available.",
	},
	"clusterrolebindings": {
		"Role":            "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
		"Users":           "Users in the clusterRoleBinding",
		"Groups":          "Groups in the clusterRoleBinding",
		"ServiceAccounts": "ServiceAccounts in the clusterRoleBinding",
	},
	"certificatesigningrequests": {
		"SignerName":        certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()["signerName"],
		"Requestor":         "Base64-encoded PKCS#10 CSR data",
		"RequestedDuration": certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc()["expirationSeconds"],
		"Condition":         "Conditions applied to the request, such as approval or denial.",
	},
	"controllerrevisions": {
		"Controller": "Controller of the object",
		"Revision":   appsv1.ControllerRevision{}.SwaggerDoc()["revision"],
	},
	"ingressclasses": {
		"Controller": "Controller that is responsible for handling this class",
		"Parameters": "A reference to a resource with additional parameters",
	},
	"configmaps": {
		"Data": corev1.ConfigMap{}.SwaggerDoc()["data"],
	},
	"daemonsets": {
		"Desired":       appsv1.DaemonSetStatus{}.SwaggerDoc()["desiredNumberScheduled"],
		"Current":       appsv1.DaemonSetStatus{}.SwaggerDoc()["currentNumberScheduled"],
		"Ready":         appsv1.DaemonSetStatus{}.SwaggerDoc()["numberReady"],
		"Up-to-date":    appsv1.DaemonSetStatus{}.SwaggerDoc()["updatedNumberScheduled"],
		"Available":     appsv1.DaemonSetStatus{}.SwaggerDoc()["numberAvailable"],
		"Node Selector": corev1.PodSpec{}.SwaggerDoc()["nodeSelector"],
		"Containers":    namesText,
		"Images":        imagesText,
		"Selector":      appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"],
	},
	"deployments": {
		"Ready":      "Number of the pod with ready state",
		"Up-to-date": appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"],
		"Available":  appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"],
		"Containers": namesText,
		"Images":     imagesText,
		"Selector":   appsv1.DeploymentSpec{}.SwaggerDoc()["selector"],
	},
	"endpoints": {
		"Endpoints": corev1.Endpoints{}.SwaggerDoc()["subsets"],
	},
	"endpointslices": {
		"AddressType": discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"],
		"Ports":       discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"],
		"Endpoints":   discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"],
	},
	"events": {
		"Last Seen":  corev1.Event{}.SwaggerDoc()["lastTimestamp"],
		"Type":       corev1.Event{}.SwaggerDoc()["type"],
		"Reason":     corev1.Event{}.SwaggerDoc()["reason"],
		"Object":     corev1.Event{}.SwaggerDoc()["involvedObject"],
		"Subobject":  corev1.ObjectReference{}.SwaggerDoc()["fieldPath"],
		"Source":     corev1.Event{}.SwaggerDoc()["source"],
		"Message":    corev1.Event{}.SwaggerDoc()["message"],
		"First Seen": corev1.Event{}.SwaggerDoc()["firstTimestamp"],
		"Count":      corev1.Event{}.SwaggerDoc()["count"],
	},
	"ingresses": {
		"Class":   "The name of the IngressClass resource that should be used for additional configuration",
		"Hosts":   "Hosts that incoming requests are matched against before the ingress rule",
		"Address": "Address is a list containing ingress points for the load-balancer",
		"Ports":   "Ports of TLS configurations that open",
	},
	"ipaddresses": {
		"ParentRef": "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
	},
	"jobs": {
		"Status":      "Status of the job.",
		"Completions": batchv1.JobStatus{}.SwaggerDoc()["succeeded"],
		"Duration":    "Time required to complete the job.",
		"Containers":  namesText,
		"Images":      imagesText,
		"Selector":    batchv1.JobSpec{}.SwaggerDoc()["selector"],
	},
	"leases": {
		"Holder": coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"],
	},
	"namespaces": {
		"Status": "The status of the namespace",
	},
	"networkpolicies": {
		"Pod-Selector": networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"],
	},
	"nodes": {
		"Status":            "The status of the node",
		"Roles":             "The roles of the node",
		"Version":           corev1.NodeSystemInfo{}.SwaggerDoc()["kubeletVersion"],
		"Internal-IP":       corev1.NodeStatus{}.SwaggerDoc()["addresses"],
		"External-IP":       corev1.NodeStatus{}.SwaggerDoc()["addresses"],
		"OS-Image":          corev1.NodeSystemInfo{}.SwaggerDoc()["osImage"],
		"Kernel-Version":    corev1.NodeSystemInfo{}.SwaggerDoc()["kernelVersion"],
		"Container-Runtime": corev1.NodeSystemInfo{}.SwaggerDoc()["containerRuntimeVersion"],
	},
	"poddisruptionbudgets": {
		"Min Available":       "The minimum number of pods that must be available.",
		"Max Unavailable":     "The maximum number of pods that may be unavailable.",
		"Allowed Disruptions": "Calculated number of pods that may be disrupted at this time.",
	},
	"pods": {
		"Ready":           "The aggregate readiness state of this pod for accepting traffic.",
		"Status":          "The aggregate status of the containers in this pod.",
		"Restarts":        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
		"IP":              corev1.PodStatus{}.SwaggerDoc()["podIP"],
		"Node":            corev1.PodSpec{}.SwaggerDoc()["nodeName"],
		"Nominated Node":  corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"],
		"Readiness Gates": corev1.PodSpec{}.SwaggerDoc()["readinessGates"],
	},
	"priorityclasses": {
		"Value":            schedulingv1.PriorityClass{}.SwaggerDoc()["value"],
		"Global-Default":   schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"],
		"PreemptionPolicy": schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"],
	},
	"replicasets": {
		"Desired":    appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"],
		"Current":    appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"],
		"Ready":      appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"],
		"Containers": namesText,
		"Images":     imagesText,
		"Selector":   appsv1.ReplicaSetSpec{}.SwaggerDoc()["selector"],
	},
	"replicationcontrollers": {
		"Desired":    corev1.ReplicationControllerSpec{}.SwaggerDoc()["replicas"],
		"Current":    corev1.ReplicationControllerStatus{}.SwaggerDoc()["replicas"],
		"Ready":      corev1.ReplicationControllerStatus{}.SwaggerDoc()["readyReplicas"],
		"Containers": namesText,
		"Images":     imagesText,
		"Selector":   corev1.ReplicationControllerSpec{}.SwaggerDoc()["selector"],
	},
	"rolebindings": {
		"Role":            "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
		"Users":           "Users in the roleBinding",
		"Groups":          "Groups in the roleBinding",
		"ServiceAccounts": "ServiceAccounts in the roleBinding",
	},
	"secrets": {
		"Type": corev1.Secret{}.SwaggerDoc()["type"],
		"Data": corev1.Secret{}.SwaggerDoc()["data"],
	},
	"servicecidrs": {
		"CIDRs": "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
	},
	"services": {
		"Type":        corev1.ServiceSpec{}.SwaggerDoc()["type"],
		"Cluster-IP":  corev1.ServiceSpec{}.SwaggerDoc()["clusterIP"],
		"External-IP": corev1.ServiceSpec{}.SwaggerDoc()["externalIPs"],
		"Port(s)":     corev1.ServiceSpec{}.SwaggerDoc()["ports"],
		"Selector":    corev1.ServiceSpec{}.SwaggerDoc()["selector"],
	},
	"statefulsets": {
		"Ready":      "Number of the pod with ready state",
		"Containers": namesText,
		"Images":     imagesText,
	},
}
