package kubelet

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const goodManifest = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"},
  "spec": {"containers": [{"name": "etcd", "image": "etcd"}, {"name": "side", "image": "busybox:1"}]}}`

func TestParseManifest(t *testing.T) {
	pod, err := parseManifest([]byte(goodManifest), "/m/etcd.yaml", "node-1")
	if err != nil {
		t.Fatal(err)
	}
	if pod.Name != "etcd-node-1" || pod.Namespace != "default" || pod.Spec.NodeName != "node-1" {
		t.Errorf("it is called %s/%s on %s", pod.Namespace, pod.Name, pod.Spec.NodeName)
	}
	if len(pod.UID) != 32 || pod.Annotations["kubernetes.io/config.hash"] != string(pod.UID) {
		t.Errorf("UID %s, annotations %v", pod.UID, pod.Annotations)
	}
	c := pod.Spec.Containers
	if c[0].ImagePullPolicy != corev1.PullAlways || c[1].ImagePullPolicy != corev1.PullIfNotPresent || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("defaults: %+v", pod.Spec)
	}
	again, _ := parseManifest([]byte(goodManifest), "/m/etcd.yaml", "node-1")
	changed, _ := parseManifest([]byte(strings.Replace(goodManifest, "busybox:1", "busybox:2", 1)), "/m/etcd.yaml", "node-1")
	elsewhere, _ := parseManifest([]byte(goodManifest), "/m/etcd.yaml", "node-2")
	if again.UID != pod.UID || changed.UID == pod.UID || elsewhere.UID == pod.UID {
		t.Error("the UID must follow from node, file and content, and from nothing else")
	}
}

func TestParseManifestRefuses(t *testing.T) {
	change := func(old, with string) string { return strings.Replace(goodManifest, old, with, 1) }
	for name, tc := range map[string]struct{ text, want string }{
		"not YAML":      {"{", "decode manifest"},
		"empty":         {"", `apiVersion "", kind ""`},
		"another kind":  {change(`"Pod"`, `"Deployment"`), `kind "Deployment"`},
		"no name":       {change(`"name": "etcd"`, `"labels": {}`), "metadata.name: Required value"},
		"no image":      {change(`, "image": "busybox:1"`, ""), "spec.containers[1].image: Required value"},
		"an account":    {change(`"spec": {`, `"spec": {"serviceAccountName": "admin", `), "ServiceAccount"},
		"a Secret":      {change(`"spec": {`, `"spec": {"volumes": [{"name": "v", "secret": {}}], `), "spec.volumes[0]"},
		"a misspelling": {change(`"spec": {`, `"spec": {"hostNet": true, `), "hostNet"},
		"no containers": {`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}`, "spec.containers: Required value"},
	} {
		if _, err := parseManifest([]byte(tc.text), "/m/x", "node-1"); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tc.want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Fuzz(func(t *testing.T, data []byte) {
		if pod, err := parseManifest(data, "/m/x", "node-1"); err == nil && (pod.UID == "" || len(pod.Spec.Containers) == 0) {
			t.Errorf("accepted %q", data)
		}
	})
}
