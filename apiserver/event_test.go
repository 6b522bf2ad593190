package apiserver

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEventFields: the two groups in which events are shown have their own names for the same fields, and each
// refuses the other's.
func TestEventFields(t *testing.T) {
	client := startServer(t).admin()
	for name, about := range map[string]string{"a": "web", "b": "db"} {
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: name, Namespace: "default"},
			InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Name: about, Namespace: "default", FieldPath: "spec.containers{" + about + "}"},
			Reason:         "Test", Type: corev1.EventTypeNormal, ReportingController: "tester-" + about, Source: corev1.EventSource{Component: "tester"},
		}
		if _, err := client.CoreV1().Events("default").Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		selector string
		core     bool // known in the core group
		events   bool // known in events.k8s.io
	}{
		{"involvedObject.name=web", true, false},
		{"involvedObject.fieldPath=spec.containers{web}", true, false},
		{"reportingComponent=tester-web", true, false},
		{"regarding.name=web", false, true},
		{"regarding.fieldPath=spec.containers{web}", false, true},
		{"reportingController=tester-web", false, true},
		{"metadata.name=a,reason=Test,type=Normal", true, true},
	} {
		options := metav1.ListOptions{FieldSelector: test.selector}
		core, err := client.CoreV1().Events("default").List(t.Context(), options)
		if known := err == nil; known != test.core || known && (len(core.Items) != 1 || core.Items[0].Name != "a") {
			t.Errorf("%s in the core group: %v, %v", test.selector, core, err)
		}
		events, err := client.EventsV1().Events("default").List(t.Context(), options)
		if known := err == nil; known != test.events || known && (len(events.Items) != 1 || events.Items[0].Name != "a") {
			t.Errorf("%s in events.k8s.io: %v, %v", test.selector, events, err)
		}
	}
}
