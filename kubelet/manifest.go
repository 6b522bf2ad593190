package kubelet

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/podarium/podarium/kubelet/image"
)

// Annotations which tell a static pod's origin, as upstream's kubelet writes them.
const (
	annotationConfigHash   = "kubernetes.io/config.hash"
	annotationConfigSource = "kubernetes.io/config.source"
)

// readManifest reads the pod of one file, YAML or JSON, and fills in what the API server would.
func readManifest(path, node string) (*corev1.Pod, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseManifest(data, path, node)
}

// parseManifest makes a static pod of a manifest: etcd of node-1 is called etcd-node-1, and its UID is
// a hash of all that is in it, so that a changed file is another pod.
func parseManifest(data []byte, path, node string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(data, pod); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	if err := validateStatic(pod); err != nil {
		return nil, err
	}
	pod.Name += "-" + node
	if pod.Namespace == "" {
		pod.Namespace = corev1.NamespaceDefault
	}
	pod.Status = corev1.PodStatus{}
	pod.Spec.NodeName = node
	pod.UID = manifestHash(pod, path)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[annotationConfigHash], pod.Annotations[annotationConfigSource] = string(pod.UID), "file"
	// The node's own pods stay when a taint sends the others away.
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	defaultStatic(&pod.Spec)
	return pod, nil
}

// manifestHash is 32 hex digits, as upstream's.
func manifestHash(pod *corev1.Pod, path string) types.UID {
	hash := md5.New()
	fmt.Fprintf(hash, "host:%s file:%s ", pod.Spec.NodeName, path)
	_ = json.NewEncoder(hash).Encode(pod) // a hash takes everything
	return types.UID(hex.EncodeToString(hash.Sum(nil)))
}

// validateStatic refuses what could not run. What needs the API server cannot be had: neither an
// account nor objects, since the node may not read them in the name of a pod which only it knows.
func validateStatic(pod *corev1.Pod) error {
	if pod.Kind != "Pod" || pod.APIVersion != "v1" {
		return fmt.Errorf("apiVersion %q, kind %q: must be v1, Pod", pod.APIVersion, pod.Kind)
	}
	var errs []error
	required := func(field, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: Required value", field))
		}
	}
	required("metadata.name", pod.Name)
	if len(pod.Spec.Containers) == 0 {
		errs = append(errs, errors.New("spec.containers: Required value"))
	}
	for i, c := range pod.Spec.Containers {
		required(fmt.Sprintf("spec.containers[%d].name", i), c.Name)
		required(fmt.Sprintf("spec.containers[%d].image", i), c.Image)
	}
	if pod.Spec.ServiceAccountName != "" {
		errs = append(errs, errors.New("spec.serviceAccountName: a static pod may not reference a ServiceAccount"))
	}
	for i, v := range pod.Spec.Volumes {
		if v.Secret != nil || v.ConfigMap != nil || v.Projected != nil {
			errs = append(errs, fmt.Errorf("spec.volumes[%d]: a static pod may not reference objects of the API", i))
		}
	}
	return errors.Join(errs...)
}

// defaultStatic fills in what the kubelet reads and the API server would have set.
func defaultStatic(spec *corev1.PodSpec) {
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	if spec.DNSPolicy == "" {
		spec.DNSPolicy = corev1.DNSClusterFirst
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			c := &list[i]
			if c.TerminationMessagePath == "" {
				c.TerminationMessagePath = corev1.TerminationMessagePathDefault
			}
			if c.ImagePullPolicy == "" {
				c.ImagePullPolicy = defaultPullPolicy(c.Image)
			}
		}
	}
}

// defaultPullPolicy is Always for a tag that may move, latest, as the API server has it.
func defaultPullPolicy(ref string) corev1.PullPolicy {
	if full, err := image.Normalize(ref); err == nil && strings.HasSuffix(full, ":latest") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}
