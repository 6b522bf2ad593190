package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Which words a field may hold, the Go types say in comments and constants only:
//
//	// PullPolicy describes a policy for if/when to pull a container image
//	// +enum
//	type PullPolicy string
//
//	// PullAlways means that kubelet always attempts to pull the latest image. …
//	const PullAlways PullPolicy = "Always"
//
// enums.json is what stands there, read from the source of k8s.io/api by
// `go test ./apiserver/openapi -rewrite`; the same test finds that it is old.
//
//go:embed enums.json
var enumsJSON []byte

// word is one value of an enum and what it means.
type word struct {
	Value string `json:"value"`
	Text  string `json:"text"`
}

// readEnums returns the words of types, by "k8s.io/api/core/v1.PullPolicy".
func readEnums() (map[string][]word, error) {
	all := map[string][]word{}
	if err := json.Unmarshal(enumsJSON, &all); err != nil {
		return nil, fmt.Errorf("read enums.json: %w", err)
	}
	return all, nil
}

func (s *schemas) wordsOf(t reflect.Type) []word {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return s.enums[t.PkgPath()+"."+t.Name()]
}

// values are what `kubectl explain` shows under ENUM.
func values(words []word) []string {
	var list []string
	for _, w := range words {
		list = append(list, w.Value)
	}
	slices.Sort(list)
	return list
}

// meanings is the paragraph that upstream adds to the field's description.
func meanings(words []word) string {
	if len(words) == 0 {
		return ""
	}
	var lines []string
	for _, w := range words {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("- `%q` %s", w.Value, w.Text)))
	}
	slices.Sort(lines)
	return "\n\nPossible enum values:\n " + strings.Join(lines, "\n ")
}
