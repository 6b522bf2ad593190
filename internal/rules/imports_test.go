// Package rules holds the house rules which are about packages as a whole.
package rules

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/podarium/podarium/"

// components meet only through the API server: that is what makes each of them
// readable, and replaceable, alone.
var components = []string{"apiserver", "controllers", "scheduler", "kubelet", "proxy", "dns", "cni", "lab", "machine"}

// allowed are the exceptions, each with its reason.
var allowed = map[string]string{
	"machine → kubelet/image":  "init and join fill the image store before the kubelet runs",
	"lab → kubelet/image":      "by way of machine",
	"lab → machine":            "the lab makes its nodes by the same steps",
	"lab → machine/components": "with the same processes on them",
}

// TestComponentsImportNoOther also sees what comes in through a third package.
func TestComponentsImportNoOther(t *testing.T) {
	for pkg, deps := range dependencies(t) {
		own, ok := component(pkg)
		if !ok {
			continue
		}
		for _, dep := range deps {
			other, ok := component(dep)
			if !ok || other == own || allowed[own+" → "+strings.TrimPrefix(dep, module)] != "" {
				continue
			}
			t.Errorf("%s imports %s: components meet only through the API server; wire them in cmd/podarium", pkg, dep)
		}
	}
}

func TestOnlyTheStoreKnowsEtcd(t *testing.T) {
	etcdClients := map[string]string{
		"apiserver/store": "talks to it",
		"test/api":        "runs etcd itself, as processes to kill, and measures it beside the API server",
		"proxy/compare":   "writes Services of IPv6, which the API server does not make",
	}
	for pkg, imports := range directImports(t) {
		for _, imported := range imports {
			if strings.HasPrefix(imported, "go.etcd.io/") && etcdClients[strings.TrimPrefix(pkg, module)] == "" {
				t.Errorf("%s imports %s: only apiserver/store talks to etcd", pkg, imported)
			}
		}
	}
}

func TestCNIKnowsNoKubernetes(t *testing.T) {
	for pkg, deps := range dependencies(t) {
		if !strings.HasPrefix(pkg, module+"cni") && pkg != module+"cmd/podarium-cni" {
			continue
		}
		for _, dep := range deps {
			if strings.HasPrefix(dep, "k8s.io/") {
				t.Errorf("%s depends on %s: cni is a lesson in Linux", pkg, dep)
			}
		}
	}
}

// proxyTests are the packages under proxy/ that are no backend: they give all
// backends the same clusters and the same packets, measure them, and hold them
// against kube-proxy.
var proxyTests = []string{"proxytest", "matrix", "scale", "compare"}

func TestBackendsImportNoOther(t *testing.T) {
	for pkg, imports := range directImports(t) {
		backend, ok := strings.CutPrefix(pkg, module+"proxy/")
		if !ok || slices.Contains(proxyTests, backend) {
			continue
		}
		for _, imported := range imports {
			if other, ok := strings.CutPrefix(imported, module+"proxy/"); ok && other != backend && !slices.Contains(proxyTests, other) {
				t.Errorf("proxy backend %s imports backend %s", backend, other)
			}
		}
	}
}

// component is the top-level folder of a package, when it is one.
func component(pkg string) (string, bool) {
	rest, ours := strings.CutPrefix(pkg, module)
	name, _, _ := strings.Cut(rest, "/")
	if !ours {
		return "", false
	}
	if slices.Contains(components, name) {
		return name, true
	}
	return "", false
}

func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	return list(t, `{{.ImportPath}} {{join .Deps " "}}`)
}

func directImports(t *testing.T) map[string][]string {
	t.Helper()
	return list(t, `{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}`)
}

func list(t *testing.T, format string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", format, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		packages[fields[0]] = fields[1:]
	}
	return packages
}
