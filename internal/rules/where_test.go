package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var whereRow = regexp.MustCompile("(?m)^\\| .+ \\| `([^`]+)` \\|$")

// TestWhereIsTrue: every symbol that docs/where.md names is declared where it
// says.
func TestWhereIsTrue(t *testing.T) {
	page, err := os.ReadFile("../../docs/where.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := whereRow.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 40 {
		t.Fatalf("docs/where.md has %d rows", len(rows))
	}
	for _, row := range rows {
		dir, symbol := split(row[1])
		if !declares(t, filepath.Join("../..", dir), symbol) {
			t.Errorf("docs/where.md: %s declares no %s", dir, symbol)
		}
	}
}

// split takes "apiserver/store.Store.Modify" apart into the folder and the
// symbol, "Store.Modify".
func split(where string) (dir, symbol string) {
	slash := strings.LastIndex(where, "/")
	dot := slash + 1 + strings.Index(where[slash+1:], ".")
	return where[:dot], where[dot+1:]
}

func declares(t *testing.T, dir, symbol string) bool {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range tree.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && receiver(fn)+fn.Name.Name == symbol {
				return true
			}
		}
	}
	return false
}

// receiver is "Store." for a method of Store or *Store, "" for a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	expr := fn.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	if generic, ok := expr.(*ast.IndexExpr); ok {
		expr = generic.X
	}
	if name, ok := expr.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}
