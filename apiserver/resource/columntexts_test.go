package resource

import "testing"

// Every column of every table is explained, and nothing explains a column that is not.
func TestColumnTexts(t *testing.T) {
	for _, kind := range Kinds {
		columns := map[string]bool{}
		for _, c := range kind.TableColumns() {
			columns[c.Name] = true
			if c.Description == "" {
				t.Errorf("%s: column %s is not explained", kind.Plural, c.Name)
			}
		}
		for name := range columnTexts[kind.Plural] {
			if !columns[name] {
				t.Errorf("%s has no column %s", kind.Plural, name)
			}
		}
	}
	for plural, want := range map[string]string{
		"pods":        "The aggregate readiness state of this pod for accepting traffic.",
		"deployments": "Number of the pod with ready state",
	} {
		if got := columnTexts[plural]["Ready"]; got != want {
			t.Errorf("%s: Ready is %q, want %q", plural, got, want)
		}
	}
}
