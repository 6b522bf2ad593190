package apiserver

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podarium/podarium/apiserver/resource"
)

// Whatever the body is, decoding, defaulting and validating it ends in an
// object or an error, never in a panic.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"ports":[{"port":80}]}}`,
		`{"apiVersion":"v1","kind":"Service","spec":{"type":"LoadBalancer","clusterIPs":["None","x"],"sessionAffinity":"ClientIP"}}`,
		"apiVersion: v1\nkind: Service\n", `[]`, "", "k8s\x00\n",
	} {
		f.Add(mediaJSON, []byte(body))
		f.Add(mediaYAML, []byte(body))
		f.Add(mediaProtobuf, []byte(body))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		for _, kind := range resource.Kinds {
			decoded, _, err := decodeBody(contentType, body, kind.GVK(), kind.New(), metav1.FieldValidationStrict)
			obj, ok := decoded.(resource.Object)
			if err != nil || !ok || obj.GetObjectKind().GroupVersionKind() != kind.GVK() {
				continue
			}
			kind.ApplyDefaults(obj)
			if kind.Prepare != nil {
				kind.Prepare(obj, nil)
			}
			if kind.Settle != nil {
				kind.Settle(obj, nil)
			}
			kind.Check(obj, nil)
		}
	})
}

func FuzzPatch(f *testing.F) {
	for _, body := range []string{`{"spec":{"type":"NodePort"}}`, `{"spec":null}`, `{"spec":{"ports":[{"port":80,"$patch":"delete"}]}}`, `[{"op":"remove","path":"/spec"}]`, `{"metadata":{"labels":{"a":null}}}`} {
		for _, kind := range []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType} {
			f.Add(string(kind), []byte(body))
		}
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt(80)}}},
	}
	svc.SetGroupVersionKind(resource.Service.GVK())
	f.Fuzz(func(t *testing.T, patchType string, body []byte) {
		if checkPatch(types.PatchType(patchType), body) != nil {
			return
		}
		obj, _, err := patched(resource.Service, svc, types.PatchType(patchType), body, metav1.FieldValidationWarn)
		if err != nil {
			return
		}
		resource.Service.ApplyDefaults(obj)
		resource.Service.Prepare(obj, svc)
		resource.Service.Settle(obj, svc)
		resource.Service.Check(obj, svc)
	})
}
