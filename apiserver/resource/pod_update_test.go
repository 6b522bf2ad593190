package resource

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestPodUpdate has one change of a running pod a line, and what the user reads.
func TestPodUpdate(t *testing.T) {
	const only = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
	for _, c := range []struct{ old, now, want string }{
		{`containers: [{name: c, image: i}]`, `containers: [{name: c, image: j}]`, ""},
		{`containers: [{name: c, image: i}]`, `containers: [{name: c, image: " j"}]`, `spec.containers[0].image: Invalid value: " j": must not have leading or trailing whitespace`},
		{`containers: [{name: c, image: i}]`, `containers: [{name: c, image: i}, {name: d, image: i}]`, `spec.containers: Forbidden: pod updates may not add or remove containers`},
		{`activeDeadlineSeconds: 5`, `activeDeadlineSeconds: 4`, ""},
		{`activeDeadlineSeconds: 5`, `activeDeadlineSeconds: 6`, `spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value`},
		{`activeDeadlineSeconds: 5`, ``, `spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value`},
		{`tolerations: [{key: a}]`, `tolerations: [{key: a}, {key: b}]`, ""},
		{`tolerations: [{key: a}]`, `tolerations: [{key: b}]`, `spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds`},
		{`schedulingGates: [{name: a}]`, `nodeSelector: {a: b}`, ""},
		{`schedulingGates: [{name: a}], nodeSelector: {a: b}`, `schedulingGates: [{name: a}], nodeSelector: {a: c}`, `spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)`},
		{`schedulingGates: [{name: a}]`, `schedulingGates: [{name: b}]`, `spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'`},
		{`hostname: a`, `hostname: b`, only + "@@ -64,7 +64,7 @@\n   \"SELinuxChangePolicy\": null\n  },\n  \"ImagePullSecrets\": null,\n- \"Hostname\": \"a\",\n+ \"Hostname\": \"b\",\n  \"Subdomain\": \"\",\n  \"SetHostnameAsFQDN\": null,\n  \"Affinity\": null,\n"},
	} {
		if got := podUpdate(t, c.old, c.now); got != c.want {
			t.Errorf("%s -> %s\n got %q\nwant %q", c.old, c.now, got, c.want)
		}
	}
}

// podUpdate is what is wrong first with the change from one pod to another.
func podUpdate(t *testing.T, old, now string) string {
	t.Helper()
	read := func(spec string) Object {
		pod := &corev1.Pod{}
		if err := yaml.Unmarshal([]byte(`{metadata: {name: p, namespace: default, resourceVersion: "1"}, spec: {`+spec+`}}`), pod); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if pod.Spec.Containers == nil {
			pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		}
		Pod.ApplyDefaults(pod)
		return pod
	}
	if errs := Pod.Check(read(now), read(old)); len(errs) > 0 {
		return errs[0].Error()
	}
	return ""
}

// TestWorkloadPrepare: a Deployment's annotations are its ReplicaSets', so they
// count as a generation; a job without labels has its template's.
func TestWorkloadPrepare(t *testing.T) {
	old := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	d := old.DeepCopy()
	Deployment.Prepare(d, old)
	if d.Generation != 3 {
		t.Errorf("generation %d of a Deployment as before, want 3", d.Generation)
	}
	d.Annotations = map[string]string{"a": "b"}
	if Deployment.Prepare(d, old); d.Generation != 4 {
		t.Errorf("generation %d with an annotation, want 4", d.Generation)
	}
	before := &batchv1.Job{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "a"}}}}}
	j := before.DeepCopy()
	if Job.Prepare(j, before); j.Labels["app"] != "a" {
		t.Errorf("labels %v of a changed Job, want its template's", j.Labels)
	}
	if errs := StatefulSet.Check(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "a.b", Namespace: "n"}}, nil); len(errs) == 0 || errs[0].Field != "metadata.name" {
		t.Errorf("a StatefulSet named a.b: %v", errs)
	}
}
