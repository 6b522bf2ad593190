package resource

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateConfigMap(c, old *corev1.ConfigMap) field.ErrorList                         { return nil }
func validateSecret(s, old *corev1.Secret) field.ErrorList                               { return nil }
func validateNode(n, old *corev1.Node) field.ErrorList                                   { return nil }
func validatePod(n, old *corev1.Pod) field.ErrorList                                     { return nil }
func validateReplicationController(n, old *corev1.ReplicationController) field.ErrorList { return nil }
func validateReplicaSet(n, old *appsv1.ReplicaSet) field.ErrorList                       { return nil }
func validateDeployment(n, old *appsv1.Deployment) field.ErrorList                       { return nil }
func validateDaemonSet(n, old *appsv1.DaemonSet) field.ErrorList                         { return nil }
func validateEndpointSlice(n, old *discoveryv1.EndpointSlice) field.ErrorList            { return nil }
