package apiserver

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/apiserver/resource"
)

// A list of every kind is the same, byte for byte, as by way of the list's type; with
// items whose length takes one, two and three bytes.
func TestEncodeProtobufList(t *testing.T) {
	remaining := int64(7)
	for _, kind := range resource.Kinds {
		stored := kind
		if kind.Storage != nil {
			stored = kind.Storage
		}
		for _, lm := range []metav1.ListMeta{{}, {ResourceVersion: "4711", Continue: "next", RemainingItemCount: &remaining}} {
			var objects []resource.Object
			for _, length := range []int{0, 100, 300, 20000} {
				obj := stored.New()
				obj.SetName("name")
				obj.SetAnnotations(map[string]string{"long": strings.Repeat("x", length)})
				obj.GetObjectKind().SetGroupVersionKind(stored.GVK())
				objects = append(objects, obj)
			}
			for _, some := range [][]resource.Object{nil, objects} {
				list, err := listOf(kind, some, lm)
				if err != nil {
					t.Fatal(err)
				}
				var got, want bytes.Buffer
				if err := encode(serializerFor(mediaProtobuf).Serializer, list, &want); err != nil {
					t.Fatal(err)
				}
				if err := encodeProtobufList(&got, kind, some, lm); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want.Bytes()) {
					t.Errorf("%d %s: %d bytes, want %d:\n%q\n%q", len(some), kind.Plural, got.Len(), want.Len(), head(got), head(want))
				}
			}
		}
	}
	if len(resource.Kinds) < 30 || newKindIndex()[corev1.SchemeGroupVersion.WithResource("pods")] == nil {
		t.Errorf("only %d kinds were compared", len(resource.Kinds))
	}
}

func head(b bytes.Buffer) []byte { return b.Bytes()[:min(b.Len(), 200)] }
