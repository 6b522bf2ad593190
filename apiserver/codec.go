package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/podarium/podarium/apiserver/resource"
)

// The media types of objects.
const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
)

var (
	scheme = resource.NewScheme()
	// Lists are encoded item by item, as upstream: a list of 10 000 pods needs
	// no 10 MB at once.
	codecs = serializer.NewCodecFactory(scheme, serializer.WithStreamingCollectionEncodingToJSON(), serializer.WithStreamingCollectionEncodingToProtobuf())
)

// storageCodec is how objects look in etcd: JSON that people can read, or
// protobuf. Either is read whatever is configured, so the setting may change.
type storageCodec struct {
	protobuf bool
	kinds    map[string]*resource.Kind // by etcd prefix
}

func newStorageCodec(mediaType string) *storageCodec {
	c := &storageCodec{protobuf: mediaType == mediaProtobuf, kinds: map[string]*resource.Kind{}}
	for _, k := range slices.Concat(resource.Kinds, resource.Internal) {
		if k.Storage == nil {
			c.kinds[k.Prefix] = k
		}
	}
	return c
}

func (c *storageCodec) prefixes() []string {
	var list []string
	for prefix := range c.kinds {
		list = append(list, prefix)
	}
	return list
}

// Encode writes obj without its resourceVersion, which etcd itself keeps.
func (c *storageCodec) Encode(obj resource.Object) ([]byte, error) {
	if obj.GetObjectKind().GroupVersionKind().Empty() {
		return nil, fmt.Errorf("object %s/%s has no kind", obj.GetNamespace(), obj.GetName())
	}
	version := obj.GetResourceVersion()
	obj.SetResourceVersion("")
	defer obj.SetResourceVersion(version)
	if c.protobuf {
		var b bytes.Buffer
		err := protobuf.NewSerializer(scheme, scheme).Encode(obj, &b)
		return b.Bytes(), err
	}
	return json.Marshal(obj)
}

var protobufMagic = []byte{'k', '8', 's', 0}

// Decode reads a value of the kind that lives under prefix.
func (c *storageCodec) Decode(prefix string, value []byte) (resource.Object, error) {
	kind, ok := c.kinds[prefix]
	if !ok {
		return nil, fmt.Errorf("no kind is stored under %s", prefix)
	}
	obj := kind.New()
	if bytes.HasPrefix(value, protobufMagic) {
		gvk := kind.GVK()
		if _, _, err := protobuf.NewSerializer(scheme, scheme).Decode(value, &gvk, obj); err != nil {
			return nil, err
		}
	} else if err := json.Unmarshal(value, obj); err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.GVK())
	return obj, nil
}

// kindOf finds the stored kinds by group, version and plural.
type kindIndex map[schema.GroupVersionResource]*resource.Kind

func newKindIndex() kindIndex {
	index := kindIndex{}
	for _, k := range resource.Kinds {
		index[k.GroupVersion.WithResource(k.Plural)] = k
	}
	return index
}
