package machine

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/podarium/podarium/machine/components"
)

// said is what an error tells; nothing, when there is none.
func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestPreflight: everything that is wrong is told at once, each with the name by
// which it may be ignored; a warning stops nothing.
func TestPreflight(t *testing.T) {
	checks := []check{
		{"Good", false, func() error { return nil }},
		{"Bad", false, func() error { return errors.New("is bad") }},
		{"Worse", false, func() error { return errors.New("is worse") }},
		{"Dusty", true, func() error { return errors.New("is dusty") }},
	}
	for _, test := range []struct {
		ignore      []string
		told, wrong []string
	}{
		{nil, []string{"WARNING Dusty: is dusty"}, []string{"Bad: is bad", "Worse: is worse", "--ignore-preflight-errors"}},
		{[]string{"Bad"}, []string{"ignored Bad: is bad"}, []string{"Worse: is worse"}},
		{[]string{"all"}, []string{"ignored Bad", "ignored Worse"}, nil},
	} {
		var out bytes.Buffer
		err := New(&out).look(checks, test.ignore)
		if (err != nil) != (test.wrong != nil) {
			t.Errorf("ignoring %v: %v", test.ignore, err)
		}
		for _, words := range test.told {
			if !strings.Contains(out.String(), words) {
				t.Errorf("ignoring %v: %q is not told in %q", test.ignore, words, out.String())
			}
		}
		for _, words := range test.wrong {
			if !strings.Contains(said(err), words) {
				t.Errorf("ignoring %v: %q is not told in %v", test.ignore, words, err)
			}
		}
	}
}

func TestNodeNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"node-1": true, "node-1.example.org": true, "Node-1": false, "node_1": false, "-node": false, "": false, strings.Repeat("n", 254): false,
	} {
		if err := validNodeName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestNodeAddress: neither one that no other machine reaches, nor one that this
// machine has not.
func TestNodeAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "0.0.0.0", "192.0.2.1"} {
		if err := localAddress(netip.MustParseAddr(address)); !strings.Contains(said(err), address+" is no address of this machine") {
			t.Errorf("%s: %v", address, err)
		}
	}
	have, err := machineAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range have {
		if err := localAddress(address.Addr()); err != nil {
			t.Error(err)
		}
		cluster := plan
		cluster.ClusterCIDR = address.Masked()
		if err := freeRanges(cluster); !strings.Contains(said(err), "overlaps this machine's network") {
			t.Errorf("pods in %s, where this machine is: %v", address.Masked(), err)
		}
	}
}

// TestPortTaken names the program that has it: this one.
func TestPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	want := "port " + strconv.Itoa(port) + ", which kubelet needs, is in use by machine.test (PID " + strconv.Itoa(os.Getpid()) + "): stop that program"
	if err := portFree(port, "kubelet"); !strings.HasPrefix(said(err), want) {
		t.Errorf("%v, want %q", err, want)
	}
	listener.Close()
	if err := portFree(port, "kubelet"); err != nil {
		t.Error(err)
	}
}

// TestNeedsHaveRemedies: each need, of every way to carry Services, tells a
// command.
func TestNeedsHaveRemedies(t *testing.T) {
	needs := ContainerNeeds
	for _, mode := range components.ProxyModes {
		needs = append(needs, ProxyNeeds(mode)...)
	}
	for _, need := range needs {
		if need.Name == "" || !strings.Contains(need.Remedy, ": ") || strings.Contains(need.Remedy, "\n") {
			t.Errorf("%s: %q is not a line of what is missing and what to do", need.Name, need.Remedy)
		}
	}
	missing := Need{"Nothing", func() bool { return false }, "nothing is missing: apt-get install nothing"}
	if err := Check(missing, missing); os.Geteuid() == 0 && said(err) != missing.Remedy+"\n"+missing.Remedy {
		t.Errorf("told %q", said(err))
	}
}
