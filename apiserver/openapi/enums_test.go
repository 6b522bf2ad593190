package openapi

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/apiserver/resource"
)

var rewrite = flag.Bool("rewrite", false, "write enums.json anew from the source of k8s.io/api")

// enums.json is what the source of the types says.
func TestEnums(t *testing.T) {
	source := map[string][]word{}
	imports := compiled(t)
	for _, pkg := range typePackages() {
		sourceEnums(t, imports, pkg, source)
	}
	if *rewrite {
		text, err := json.MarshalIndent(source, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("enums.json", append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := readEnums()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(source, have); diff != "" {
		t.Errorf("enums.json is old, write it anew with -rewrite (- source, + file)\n%s", diff)
	}
	if len(source) < 40 {
		t.Errorf("only %d enums were found", len(source))
	}
}

// What a field may hold is in its schema, and what that means in its text.
func TestEnumInDocument(t *testing.T) {
	text, err := V2(resource.Kinds, "v1")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Definitions map[string]Schema }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		model, field string
		values       []string
		meaning      string
	}{
		{"io.k8s.api.core.v1.Container", "imagePullPolicy", []string{"Always", "IfNotPresent", "Never"}, " - `\"Always\"` means that kubelet always attempts to pull the latest image. Container will fail If the pull fails."},
		{"io.k8s.api.core.v1.PodSpec", "restartPolicy", []string{"Always", "Never", "OnFailure"}, "\n\nPossible enum values:\n - `\"Always\"`\n"},
		{"io.k8s.api.core.v1.ServiceSpec", "internalTrafficPolicy", []string{"Cluster", "Local"}, " - `\"Cluster\"` routes traffic to all endpoints."}, // a pointer
		{"io.k8s.api.discovery.v1.EndpointSlice", "addressType", []string{"FQDN", "IPv4", "IPv6"}, " - `\"FQDN\"` represents a FQDN."},                 // constants of another package
		{"io.k8s.api.core.v1.Container", "name", nil, ""},
	} {
		got := doc.Definitions[want.model].Properties[want.field]
		if got == nil || !slices.Equal(got.Enum, want.values) || !strings.Contains(got.Description, want.meaning) {
			t.Errorf("%s.%s: %+v", want.model, want.field, got)
		}
	}
	policies := doc.Definitions["io.k8s.api.networking.v1.NetworkPolicySpec"].Properties["policyTypes"]
	if policies.Items == nil || !slices.Equal(policies.Items.Enum, []string{"Egress", "Ingress"}) {
		t.Errorf("items of a list: %+v", policies)
	}
}

// typePackages are where the types of the kinds are.
func typePackages() []string {
	var list []string
	for _, k := range resource.Kinds {
		list = append(list, reflect.TypeOf(k.New()).Elem().PkgPath())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// compiled knows the values of constants: it reads what the compiler wrote about
// the packages.
func compiled(t *testing.T) types.Importer {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}, typePackages()...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		pkg, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[pkg] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(pkg string) (io.ReadCloser, error) { return os.Open(files[pkg]) })
}

// sourceEnums finds the string types of a package that are marked +enum, and
// their constants.
func sourceEnums(t *testing.T, imports types.Importer, pkg string, into map[string][]word) {
	t.Helper()
	comments := commentsOf(t, pkg)
	known, err := imports.Import(pkg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range known.Scope().Names() {
		c, ok := known.Scope().Lookup(name).(*types.Const)
		if !ok {
			continue
		}
		named, ok := types.Unalias(c.Type()).(*types.Named)
		if !ok || named.Obj().Pkg() != known || !slices.Contains(comments[named.Obj().Name()], "+enum") {
			continue
		}
		// The comment begins with the name, which says nothing to those who
		// write manifests.
		text := strings.TrimPrefix(strings.TrimSpace(strings.Join(comments[name], " ")), name)
		key := pkg + "." + named.Obj().Name()
		into[key] = addWord(into[key], word{Value: constant.StringVal(c.Val()), Text: strings.Join(strings.Fields(text), " ")})
	}
}

// addWord: of two constants with one value, an old name and a new one, that
// counts which says more.
func addWord(list []word, w word) []word {
	i := slices.IndexFunc(list, func(have word) bool { return have.Value == w.Value })
	switch {
	case i < 0:
		return append(list, w)
	case len(w.Text) > len(list[i].Text):
		list[i] = w
	}
	return list
}

// commentsOf are the lines above each type and constant of a package.
func commentsOf(t *testing.T, pkg string) map[string][]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		t.Fatalf("find the source of %s: %v", pkg, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no source in %s: %v", pkg, dir, err)
	}
	comments := map[string][]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				addComments(comments, d)
			}
		}
	}
	return comments
}

func addComments(comments map[string][]string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		var name string
		var doc *ast.CommentGroup
		switch s := spec.(type) {
		case *ast.TypeSpec:
			name, doc = s.Name.Name, s.Doc
		case *ast.ValueSpec:
			name, doc = s.Names[0].Name, s.Doc
		}
		if doc == nil && !d.Lparen.IsValid() {
			doc = d.Doc
		}
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			comments[name] = append(comments[name], strings.TrimSpace(strings.TrimPrefix(c.Text, "//")))
		}
	}
}
