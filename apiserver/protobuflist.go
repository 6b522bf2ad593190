package apiserver

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/podarium/podarium/apiserver/resource"
)

// encodeProtobufList writes a list straight from the objects in memory: each is
// measured once and encoded once, and none is copied. Components ask for their lists
// in this form.
//
// In every list of the API, field 1 is the metadata and field 2 one item (the
// generated.proto files of k8s.io/api); items carry no kind. "k8s\0" and
// runtime.Unknown, which names the kind of the list, stand before it.
func encodeProtobufList(w io.Writer, kind *resource.Kind, objects []resource.Object, lm metav1.ListMeta) error {
	const metadata, item = 1, 2
	fields := make([]protobufField, 0, 1+len(objects))
	fields = append(fields, protobufField{metadata, &lm, lm.Size()})
	for _, obj := range objects {
		message, ok := shown(kind, obj).(runtime.ProtobufReverseMarshaller)
		if !ok {
			return fmt.Errorf("encode %s as protobuf: they have no such form", kind.Plural)
		}
		fields = append(fields, protobufField{item, message, message.Size()})
	}
	total := 0
	for _, f := range fields {
		total += f.length()
	}
	if _, err := w.Write(protobufMagic); err != nil {
		return err
	}
	list := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: kind.GroupVersion.String(), Kind: kind.Kind + "List"}}
	_, err := list.MarshalToWriter(w, total, func(w io.Writer) (int, error) {
		var buffer []byte
		for _, f := range fields {
			var err error
			if buffer, err = f.appendTo(buffer[:0]); err != nil {
				return 0, err
			}
			if _, err := w.Write(buffer); err != nil {
				return 0, err
			}
		}
		return total, nil
	})
	return err
}

// protobufField is a message as a field of another: tag, length, the message.
type protobufField struct {
	number  byte
	message runtime.ProtobufReverseMarshaller
	size    int // of the message
}

func (f protobufField) appendTo(b []byte) ([]byte, error) {
	const lengthDelimited = 2
	b = binary.AppendUvarint(append(b, f.number<<3|lengthDelimited), uint64(f.size))
	head := len(b)
	b = slices.Grow(b, f.size)[:head+f.size]
	_, err := f.message.MarshalToSizedBuffer(b[head:])
	return b, err
}

// length is what appendTo appends: seven bits of the size are in a byte.
func (f protobufField) length() int {
	return 1 + max(1, (bits.Len(uint(f.size))+6)/7) + f.size
}
