package openapi

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"

	"github.com/podarium/podarium/apiserver/resource"
)

// Schema is a JSON schema as far as Kubernetes uses it. References are written
// as v3 has them; v2 differs in the prefix alone.
type Schema struct {
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Format      string             `json:"format,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	Values      *Schema            `json:"additionalProperties,omitempty"`
	AllOf       []*Schema          `json:"allOf,omitempty"`
	OneOf       []*Schema          `json:"oneOf,omitempty"`

	ListType      string     `json:"x-kubernetes-list-type,omitempty"`
	ListKeys      []string   `json:"x-kubernetes-list-map-keys,omitempty"`
	MapType       string     `json:"x-kubernetes-map-type,omitempty"`
	PatchMergeKey string     `json:"x-kubernetes-patch-merge-key,omitempty"`
	PatchStrategy string     `json:"x-kubernetes-patch-strategy,omitempty"`
	Kinds         []kindName `json:"x-kubernetes-group-version-kind,omitempty"`
}

type kindName struct {
	Group   string `json:"group"`
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

func nameOf(gvk schema.GroupVersionKind) kindName {
	return kindName{Group: gvk.Group, Kind: gvk.Kind, Version: gvk.Version}
}

// schemas collects the schema of a type and of all types in it, by name.
type schemas struct {
	prefix string // of references: "#/components/schemas/" or "#/definitions/"
	v2     bool
	byName map[string]*Schema
	rules  *smd.Schema
	enums  map[string][]word // of types that are enums
	scheme *runtime.Scheme
}

func newSchemas(v2 bool) (*schemas, error) {
	words, err := readEnums()
	if err != nil {
		return nil, err
	}
	s := &schemas{prefix: "#/components/schemas/", v2: v2, byName: map[string]*Schema{}, rules: mergeRules(), enums: words, scheme: resource.NewScheme()}
	if v2 {
		s.prefix = "#/definitions/"
	}
	return s, nil
}

// add describes an object's type and says which kind it is.
func (s *schemas) add(obj any, gvk schema.GroupVersionKind) (ref string) {
	t := reflect.TypeOf(obj).Elem()
	name := s.define(t)
	s.byName[name].Kinds = []kindName{nameOf(gvk)}
	return s.prefix + name
}

// named describes a type that is no resource of its own, such as Scale.
func (s *schemas) named(gvk schema.GroupVersionKind) (ref string) {
	obj, err := s.scheme.New(gvk)
	if err != nil {
		return ""
	}
	return s.add(obj, gvk)
}

// define makes the schema of a struct type once and returns its name.
func (s *schemas) define(t reflect.Type) string {
	name := modelName(t)
	if _, done := s.byName[name]; done {
		return name
	}
	def := &Schema{Type: "object"}
	s.byName[name] = def // before its fields: types refer to themselves
	docs := swaggerDoc(t)
	def.Description = docs[""]
	s.addFields(def, t, docs)
	s.addMergeRules(def, name)
	return name
}

func (s *schemas) addFields(def *Schema, t reflect.Type, docs map[string]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && (name == "" || strings.Contains(options, "inline")) {
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			own := swaggerDoc(embedded)
			s.addFields(def, embedded, own)
			continue
		}
		if name == "" {
			continue
		}
		field := s.value(f.Type)
		s.describe(field, docs[name]+meanings(s.wordsOf(f.Type)))
		field.PatchMergeKey, field.PatchStrategy = f.Tag.Get("patchMergeKey"), f.Tag.Get("patchStrategy")
		if def.Properties == nil {
			def.Properties = map[string]*Schema{}
		}
		def.Properties[name] = field
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			def.Required = append(def.Required, name)
		}
	}
}

// describe adds a field's own text. In v3 a reference may have no siblings, so
// it is wrapped.
func (s *schemas) describe(field *Schema, text string) {
	if field.Ref != "" && !s.v2 {
		field.AllOf, field.Ref = []*Schema{{Ref: field.Ref}}, ""
	}
	field.Description = text
}

// value is the schema of a field's type.
func (s *schemas) value(t reflect.Type) *Schema {
	if t.Kind() == reflect.Pointer {
		return s.value(t.Elem())
	}
	if special := s.special(t); special != nil {
		return special
	}
	switch t.Kind() {
	case reflect.String:
		return &Schema{Type: "string", Enum: values(s.wordsOf(t))}
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	case reflect.Int32, reflect.Uint8, reflect.Int8, reflect.Int16, reflect.Uint16:
		return &Schema{Type: "integer", Format: "int32"}
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Uint:
		return &Schema{Type: "integer", Format: "int64"}
	case reflect.Float32, reflect.Float64:
		return &Schema{Type: "number", Format: "double"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &Schema{Type: "string", Format: "byte"}
		}
		return &Schema{Type: "array", Items: s.value(t.Elem())}
	case reflect.Map:
		return &Schema{Type: "object", Values: s.value(t.Elem())}
	case reflect.Struct:
		return &Schema{Ref: s.prefix + s.define(t)}
	}
	return &Schema{Type: "object"}
}

// special are the types whose JSON is not what their Go fields say: times,
// quantities, int-or-string, raw objects. They tell it themselves.
func (s *schemas) special(t reflect.Type) *Schema {
	v := reflect.New(t).Interface()
	typed, ok := v.(interface{ OpenAPISchemaType() []string })
	if !ok {
		switch t.Name() {
		case "RawExtension", "FieldsV1":
			return &Schema{Type: "object"}
		}
		return nil
	}
	name := modelName(t)
	if _, done := s.byName[name]; !done {
		def := &Schema{Description: swaggerDoc(t)[""]}
		if types := typed.OpenAPISchemaType(); len(types) > 0 {
			def.Type = types[0]
		}
		if formatted, ok := v.(interface{ OpenAPISchemaFormat() string }); ok {
			def.Format = formatted.OpenAPISchemaFormat()
		}
		if def.Format == "int-or-string" && !s.v2 {
			def.Type, def.OneOf = "", []*Schema{{Type: "integer"}, {Type: "string"}}
		}
		s.byName[name] = def
	}
	return &Schema{Ref: s.prefix + name}
}

// modelName is the name upstream gives a type: "io.k8s.api.core.v1.Pod".
func modelName(t reflect.Type) string {
	if named, ok := reflect.TypeAssert[interface{ OpenAPIModelName() string }](reflect.New(t)); ok {
		return named.OpenAPIModelName()
	}
	return strings.NewReplacer("k8s.io/", "io.k8s.", "/", ".").Replace(t.PkgPath()) + "." + t.Name()
}

func swaggerDoc(t reflect.Type) map[string]string {
	if documented, ok := reflect.TypeAssert[interface{ SwaggerDoc() map[string]string }](reflect.New(t)); ok {
		return documented.SwaggerDoc()
	}
	return nil
}
