package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docsLab is where the commands of the documentation run.
const docsLab = "test-docs"

// notRun are commands which the documentation shows and this test does not
// run, each with the reason.
var notRun = map[string]string{
	"podarium up":                   "has run already",
	"podarium node stop node-3":     "other commands look at node-3",
	"podarium kubectl get nodes -w": "waits for ever",
	"kubectl get nodes -w":          "waits for ever",
}

var commandLine = regexp.MustCompile(`(?m)^ +\$ (.+)$`)

// TestDocumentedCommands runs every line of README.md and docs/ that begins
// with "$", in order, on a lab with the examples they speak of.
func TestDocumentedCommands(t *testing.T) {
	bin, home := podarium(t), t.TempDir()
	run(t, home, bin, "down", "--name", docsLab)
	t.Cleanup(func() { run(t, home, bin, "down", "--name", docsLab) })
	run(t, home, bin, "up", "--name", docsLab)
	tools := t.TempDir()
	for _, name := range []string{"podarium", "kubectl"} {
		if err := os.Symlink(bin, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	sh := func(script string) (string, error) {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "PODARIUM_LAB="+docsLab,
			"KUBECONFIG=/var/lib/podarium/"+docsLab+"/admin.conf")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := sh(`kubectl apply -f examples/nginx.yaml -f examples/tmp-shell.yaml -f examples/simpleservice.yaml &&
		kubectl wait --for=condition=Ready pod --all --timeout=60s`); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, page := range append([]string{"../README.md"}, pages...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range commandLine.FindAllStringSubmatch(string(text), -1) {
			for command := range strings.SplitSeq(strings.ReplaceAll(match[1], "bin/podarium", "podarium"), ";") {
				command, _, _ = strings.Cut(command, " #")
				command = strings.TrimSpace(command)
				if _, skip := notRun[command]; skip {
					continue
				}
				ran++
				if out, err := sh(command); err != nil {
					t.Errorf("%s: $ %s\n%v: %s", filepath.Base(page), command, err, out)
				}
			}
		}
	}
	if ran < 15 {
		t.Errorf("only %d commands were found: do the pages still mark them with \"$\"?", ran)
	}
}

// TestReadmeMapIsTrue: every link of the README leads somewhere.
func TestReadmeMapIsTrue(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("..", match[1])); err != nil {
			t.Errorf("README links to %s: %v", match[1], err)
		}
	}
}
