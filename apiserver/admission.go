package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// Admission is what looks beyond the object itself: whether its namespace is
// alive, whether the ServiceAccount it names exists, whether a kubelet keeps to
// its own node. Upstream has thirty plugins; these are the ones that every
// cluster relies on.

func (s *Server) admitCreate(ctx context.Context, kind *resource.Kind, obj resource.Object) error {
	if err := s.namespaceLives(ctx, kind, obj); err != nil {
		return err
	}
	if err := s.restrictNode(ctx, kind, obj, nil, ""); err != nil {
		return err
	}
	if err := s.grantsOnlyOwn(ctx, kind, obj, nil); err != nil {
		return err
	}
	if csr, ok := obj.(*certificatesv1.CertificateSigningRequest); ok {
		signRequestor(ctx, csr)
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		if err := s.giveAccount(ctx, pod); err != nil {
			return err
		}
		tolerateNodeTrouble(pod)
		return s.givePriority(pod)
	}
	return nil
}

func (s *Server) admitUpdate(ctx context.Context, kind *resource.Kind, obj, current resource.Object, subresource string) error {
	if csr, ok := obj.(*certificatesv1.CertificateSigningRequest); ok && subresource != "" {
		if err := s.mayDecide(ctx, csr, subresource); err != nil {
			return err
		}
	}
	if pod, ok := obj.(*corev1.Pod); ok && subresource == "" {
		keepAdmitted(pod, current.(*corev1.Pod))
	}
	if err := s.grantsOnlyOwn(ctx, kind, obj, current); err != nil {
		return err
	}
	return s.restrictNode(ctx, kind, obj, current, subresource)
}

// keepAdmitted fills in again what was added when the pod was created, and what a
// manifest that is written over it does not say.
func keepAdmitted(pod, old *corev1.Pod) {
	tolerateNodeTrouble(pod)
	if pod.Spec.Priority == nil {
		pod.Spec.Priority = old.Spec.Priority
	}
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
}

// immortal are the namespaces without which nothing works.
var immortal = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}

func (s *Server) admitDelete(ctx context.Context, kind *resource.Kind, namespace, name string) error {
	if kind == resource.Namespace && slices.Contains(immortal, name) {
		return apierrors.NewForbidden(kind.GR(), name, errors.New("this namespace may not be deleted"))
	}
	return s.restrictNodeDelete(ctx, kind, namespace, name)
}

// namespaceLives: nothing is created in a namespace that is missing, or on its
// way out.
func (s *Server) namespaceLives(ctx context.Context, kind *resource.Kind, obj resource.Object) error {
	if !kind.Namespaced {
		return nil
	}
	name := obj.GetNamespace()
	ns, err := s.lookup(ctx, resource.Namespace, "", name)
	if err != nil {
		return err
	}
	if ns.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		return nil
	}
	forbidden := apierrors.NewForbidden(kind.GR(), obj.GetName(), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", name))
	forbidden.ErrStatus.Details.Causes = append(forbidden.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", name), Field: "metadata.namespace",
	})
	return forbidden
}

// lookup finds an object in the copy, or else in etcd: it may have been made
// through another API server a moment ago.
func (s *Server) lookup(ctx context.Context, kind *resource.Kind, namespace, name string) (resource.Object, error) {
	key := kind.Key(namespace, name)
	if obj, ok := s.store.Cached(key); ok {
		return obj, nil
	}
	obj, err := s.store.Get(ctx, key)
	return obj, apiError(err, kind.GR(), name)
}

// giveAccount gives a pod its ServiceAccount, and a volume with the account's
// token, the cluster's CA and the namespace: all a program in the pod needs to
// call the API.
func (s *Server) giveAccount(ctx context.Context, pod *corev1.Pod) error {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil // a kubelet's image of a static pod, which has no account
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = "default"
	}
	name := pod.Spec.ServiceAccountName
	pod.Spec.DeprecatedServiceAccount = name
	obj, err := s.lookup(ctx, resource.ServiceAccount, pod.Namespace, name)
	if err != nil {
		return apierrors.NewForbidden(resource.Pod.GR(), pod.Name, fmt.Errorf("error looking up service account %s/%s: %w", pod.Namespace, name, accountError(err, name)))
	}
	account := obj.(*corev1.ServiceAccount)
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(account.ImagePullSecrets)
	}
	wants := account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
	if own := pod.Spec.AutomountServiceAccountToken; own != nil {
		wants = *own
	}
	if wants {
		mountAccount(pod)
	}
	return nil
}

// accountError is the not-found of a ServiceAccount in the singular, as
// upstream words it here.
func accountError(err error, name string) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("serviceaccount %q not found", name)
	}
	return err
}

const accountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// mountAccount adds the projected volume kube-api-access-x7k2p and mounts it in
// every container that has nothing else there.
func mountAccount(pod *corev1.Pod) {
	volume := accountVolume()
	mounted := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == accountPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume.Name, ReadOnly: true, MountPath: accountPath})
			mounted = true
		}
	}
	if mounted {
		pod.Spec.Volumes = append(pod.Spec.Volumes, volume)
	}
}

func accountVolume() corev1.Volume {
	expires, mode := int64(3607), int32(0o644) // an hour; the odd 7 tells a default from a choice
	return corev1.Volume{
		Name: generateName("kube-api-access-"),
		VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: &mode,
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &expires}},
				{ConfigMap: &corev1.ConfigMapProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
					Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
				}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
					Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
				}}}},
			},
		}},
	}
}

// tolerateNodeTrouble lets a pod stay five minutes on a node that is not ready
// or cannot be reached, before it is evicted and made anew elsewhere.
func tolerateNodeTrouble(pod *corev1.Pod) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		}) {
			continue
		}
		seconds := int64(300)
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
}

// isNode is the node whose kubelet sends the request, or "".
func isNode(ctx context.Context) string { return auth.NodeOf(auth.UserOf(ctx)) }
