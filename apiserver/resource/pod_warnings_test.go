package resource

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestPodWarnings has one surprise a line, and what kubectl prints about it.
func TestPodWarnings(t *testing.T) {
	for _, c := range []struct {
		spec string
		want []string
	}{
		{`{containers: [{name: c, image: i}]}`, nil},
		{`{containers: [{name: c, env: [{name: A, value: a}, {name: A, value: b}]}]}`, []string{`spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`}},
		{`{containers: [{name: c, env: [{name: A, value: a}, {name: A, value: $(A)b}]}]}`, nil},
		{`{containers: [{name: c, resources: {limits: {memory: 500m}}}]}`, []string{
			`spec.containers[0].resources.limits[memory]: fractional byte value "500m" is invalid, must be an integer`,
			`spec.containers[0].resources.requests[memory]: fractional byte value "500m" is invalid, must be an integer`,
		}},
		{`{containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 80}]}]}`, []string{`spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]`}},
		{`{containers: [{name: c, ports: [{containerPort: 80, hostPort: 1}, {containerPort: 80}]}]}`, []string{`spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]`}},
		{`{containers: [{name: c, ports: [{name: a, containerPort: 80}]}, {name: d, ports: [{name: a, containerPort: 81}]}]}`, []string{`spec.containers[1].ports[0]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]`}},
		{`{nodeSelector: {beta.kubernetes.io/os: linux}}`, []string{`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`}},
		{`{topologySpreadConstraints: [{topologyKey: z}]}`, []string{`spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod`}},
		{`{affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: z}]}}}`, []string{`spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod`}},
		{`{hostAliases: [{ip: 10.0.0.1}, {ip: 10.0.0.1}]}`, []string{`spec.hostAliases[1].ip: duplicate ip "10.0.0.1"`}},
		{`{imagePullSecrets: [{name: a}, {name: a}, {}]}`, []string{`spec.imagePullSecrets[1].name: duplicate name "a"`, `spec.imagePullSecrets[2].name: invalid empty name ""`}},
		{`{volumes: [{name: v, configMap: {name: m, items: [{key: a, path: p}, {key: b, path: p/q}]}}]}`, []string{`volume "v" (ConfigMap "m"): overlapping paths: "p/q" with "p"`}},
		{`{volumes: [{name: v, projected: {sources: [{}]}}]}`, []string{`volume "v" (Projected) has no sources provided`}},
		{`{volumes: [{name: v, projected: {sources: [{secret: {name: s, items: [{key: a, path: t}]}}, {serviceAccountToken: {path: t}}]}}]}`, []string{`volume "v" (Projected): overlapping paths: "t" (ServiceAccountToken) with "t" (Secret "s")`}},
		{`{volumes: [{name: v, gitRepo: {repository: r}}]}`, []string{`spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+`}},
		{`{terminationGracePeriodSeconds: -1}`, []string{`spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1`}},
	} {
		pod := &corev1.Pod{}
		if err := yaml.Unmarshal([]byte(`{metadata: {name: p}, spec: `+c.spec+`}`), pod); err != nil {
			t.Fatalf("%s: %v", c.spec, err)
		}
		Pod.ApplyDefaults(pod)
		if got := Pod.Warnings(pod, nil); !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q\nwant %q", c.spec, got, c.want)
		}
		if got := Pod.Warnings(pod, pod); got != nil {
			t.Errorf("%s: a change of the pod warns of %q", c.spec, got)
		}
	}
}

// TestTemplateWarnings: a workload warns again when its specification changed.
func TestTemplateWarnings(t *testing.T) {
	d := &appsv1.Deployment{}
	if err := yaml.Unmarshal([]byte(`{metadata: {name: a.b, generation: 2}, spec: {template: {spec: {imagePullSecrets: [{}]}}}}`), d); err != nil {
		t.Fatal(err)
	}
	const name = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
	const secret = `spec.template.spec.imagePullSecrets[0].name: invalid empty name ""`
	if got := Deployment.Warnings(d, nil); !slices.Equal(got, []string{name, secret}) {
		t.Errorf("a new Deployment warns of %q", got)
	}
	old := d.DeepCopy()
	if got := Deployment.Warnings(d, old); got != nil {
		t.Errorf("a Deployment as before warns of %q", got)
	}
	old.Generation = 1
	if got := Deployment.Warnings(d, old); !slices.Equal(got, []string{secret}) {
		t.Errorf("a changed Deployment warns of %q", got)
	}
}

// TestPullPolicy: a tag that moves is pulled each time. What is no reference is
// the kubelet's to refuse.
func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"busybox":                    corev1.PullAlways,
		"busybox:latest":             corev1.PullAlways,
		"busybox:1":                  corev1.PullIfNotPresent,
		"host:5000/app":              corev1.PullAlways,
		"host:5000/app:1":            corev1.PullIfNotPresent,
		"app@sha256:" + zeros:        corev1.PullIfNotPresent,
		"app:latest@sha256:" + zeros: corev1.PullAlways,
		"50%":                        corev1.PullIfNotPresent,
		"UPPER":                      corev1.PullIfNotPresent,
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}
		Pod.ApplyDefaults(p)
		if got := p.Spec.Containers[0].ImagePullPolicy; got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
