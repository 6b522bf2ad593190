package resource

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tableCase is what Kubernetes 1.36 printed for objects.
type tableCase struct {
	Resource string
	Columns  []struct {
		Name, Type, Format string
		Priority           int32
	}
	Objects []json.RawMessage
	Rows    [][]any
}

func TestTables(t *testing.T) {
	data, err := os.ReadFile("testdata/tables.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []tableCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		kind := byPlural(c.Resource)
		if kind == nil {
			continue
		}
		t.Run(c.Resource, func(t *testing.T) {
			checkColumns(t, kind, &c)
			rows := map[string][]any{}
			for _, row := range c.Rows {
				rows[rowName(kind, row)] = row
			}
			for _, raw := range c.Objects {
				checkRow(t, kind, raw, rows)
			}
		})
	}
}

func byPlural(plural string) *Kind {
	for _, k := range Kinds {
		if k.Plural == plural {
			return k
		}
	}
	return nil
}

func rowName(kind *Kind, row []any) string {
	for i, c := range kind.TableColumns() {
		if c.Name == "Name" {
			return fmt.Sprint(row[i])
		}
	}
	return ""
}

func checkColumns(t *testing.T, kind *Kind, c *tableCase) {
	t.Helper()
	var got, want []string
	for _, col := range kind.TableColumns() {
		got = append(got, fmt.Sprint(col.Name, "|", col.Type, "|", col.Format, "|", col.Priority))
	}
	for _, col := range c.Columns {
		want = append(want, fmt.Sprint(col.Name, "|", col.Type, "|", col.Format, "|", col.Priority))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("columns\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var microTimes = regexp.MustCompile(`("(?:eventTime|lastObservedTime)": ?)"<time>"`)

var times = regexp.MustCompile(`"<time>"`)

func checkRow(t *testing.T, kind *Kind, raw json.RawMessage, rows map[string][]any) {
	t.Helper()
	now := time.Now()
	then := fmt.Sprintf("%q", now.Add(-5*time.Minute).UTC().Format(time.RFC3339))
	micro := fmt.Sprintf("%q", now.Add(-5*time.Minute).UTC().Format(metav1.RFC3339Micro))
	raw = microTimes.ReplaceAll(raw, []byte("${1}"+micro))
	obj := kind.New()
	if err := json.Unmarshal(times.ReplaceAll(raw, []byte(then)), obj); err != nil {
		t.Fatal(err)
	}
	want, ok := rows[obj.GetName()]
	if !ok {
		return
	}
	got := kind.TableRow(obj, now)
	for i := range want {
		a, b := fmt.Sprint(got[i]), fmt.Sprint(want[i])
		b = regexp.QuoteMeta(b)
		b = strings.ReplaceAll(b, regexp.QuoteMeta("<age>"), `[0-9a-z]+`)
		b = strings.ReplaceAll(b, regexp.QuoteMeta("<time>"), `[-:0-9TZ]+`)
		if !regexp.MustCompile("^" + b + "$").MatchString(a) {
			t.Errorf("%s %s: %s is %q, want %q", kind.Plural, obj.GetName(), kind.TableColumns()[i].Name, a, want[i])
		}
	}
}
