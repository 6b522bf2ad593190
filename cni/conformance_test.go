package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podarium/podarium/internal/netns/nstest"
)

// call runs the plugin as the specification has it: what to do in the
// environment, the configuration on standard input, the answer on standard output.
func call(t *testing.T, verb, id, netns, conf string) (answer []byte, ok bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+id, "CNI_NETNS="+netns, "CNI_IFNAME=eth0", "CNI_PATH=/")
	cmd.Stdin = strings.NewReader(conf)
	var out bytes.Buffer
	cmd.Stdout = &out
	err = cmd.Run()
	return out.Bytes(), err == nil
}

// TestVerbsAnswerAsSpecified: one case for each sentence about a verb's outcome
// (SPEC.md §4) and each error code that can be provoked (§5).
func TestVerbsAnswerAsSpecified(t *testing.T) {
	nstest.Enter(t)
	pod := nstest.New(t)
	state := t.TempDir()
	conf := func(more string) string {
		return fmt.Sprintf(`{"cniVersion":"1.1.0","name":"pods","type":"podarium","subnet":"10.244.1.0/29","dataDir":%q%s}`, state, more)
	}
	nstest.Run(t, "ip", "link", "add", "notabridge", "type", "veth", "peer", "name", "other")
	for _, tc := range []struct {
		what, verb, id, netns, conf string
		code                        uint // 0 is success
	}{
		{"VERSION", "VERSION", "", "", `{"cniVersion":"1.1.0"}`, 0},
		{"an unknown verb", "REMOVE", "a", pod.Path(), conf(""), 4},
		{"a version to come", "ADD", "a", pod.Path(), strings.Replace(conf(""), "1.1.0", "9.9.9", 1), 1},
		{"no JSON", "ADD", "a", pod.Path(), "{", 6},
		{"a wrong field", "ADD", "a", pod.Path(), strings.Replace(conf(""), "/29", "/31", 1), 7},
		{"no container", "ADD", "", pod.Path(), conf(""), 4},
		{"no namespace", "ADD", "a", "/nowhere", conf(""), 999},
		{"a bridge that is none", "ADD", "a", pod.Path(), conf(`,"bridge":"notabridge"`), 999},
		{"nothing was kept of those", "GC", "", "", conf(`,"cni.dev/valid-attachments":[]`), 0},
		{"ready", "STATUS", "", "", conf(""), 0},
		{"a first ADD", "ADD", "a", pod.Path(), conf(""), 0},
		{"a second, the interface is taken", "ADD", "b", pod.Path(), conf(""), 999},
		{"CHECK without a result", "CHECK", "a", pod.Path(), conf(""), 7},
		{"DEL of nobody", "DEL", "nobody", pod.Path(), conf(""), 0},
		{"DEL", "DEL", "a", pod.Path(), conf(""), 0},
		{"DEL once more", "DEL", "a", pod.Path(), conf(""), 0},
		{"DEL without a namespace", "DEL", "a", "", conf(""), 0},
	} {
		answer, ok := call(t, tc.verb, tc.id, tc.netns, tc.conf)
		var refusal struct {
			Code       uint
			Msg        string
			CNIVersion string
		}
		if !ok {
			if err := json.Unmarshal(answer, &refusal); err != nil || refusal.Msg == "" {
				t.Errorf("%s: the answer is no error of the specification: %s", tc.what, answer)
			}
		}
		if ok != (tc.code == 0) || refusal.Code != tc.code {
			t.Errorf("%s: code %d, want %d: %s", tc.what, refusal.Code, tc.code, answer)
		}
	}
	if links := nstest.Run(t, "ip", "-o", "link", "show", "master", DefaultBridge); links != "" {
		t.Errorf("a cable is left:\n%s", links)
	}
	if answer, _ := call(t, "VERSION", "", "", `{"cniVersion":"1.1.0"}`); !strings.Contains(string(answer), `"1.1.0"`) {
		t.Errorf("VERSION answers %s", answer)
	}
}

// TestChained: what plugins before us made stays in the result, and our
// interfaces come after theirs.
func TestChained(t *testing.T) {
	nstest.Enter(t)
	pod := nstest.New(t)
	conf := fmt.Sprintf(`{"cniVersion":"1.1.0","name":"pods","type":"podarium","subnet":"10.244.1.0/24","dataDir":%q,
		"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"net0","sandbox":"/x"}],
			"ips":[{"address":"192.0.2.5/24","interface":0}],"dns":{"nameservers":["192.0.2.1"]}}}`, t.TempDir())
	answer, ok := call(t, "ADD", "a", pod.Path(), conf)
	if !ok {
		t.Fatalf("ADD: %s", answer)
	}
	var result types100.Result
	if err := json.Unmarshal(answer, &result); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range result.Interfaces {
		names = append(names, i.Name)
	}
	if got := strings.Join(names, " "); got != "net0 cni0 "+vethName("a", "eth0")+" eth0" {
		t.Errorf("interfaces: %s", got)
	}
	if len(result.IPs) != 2 || result.IPs[0].Address.String() != "192.0.2.5/24" || *result.IPs[1].Interface != 3 || len(result.DNS.Nameservers) != 1 {
		t.Errorf("result: %s", answer)
	}
}
