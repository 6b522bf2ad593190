package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/podarium/podarium/internal/atomicfile"
	"github.com/podarium/podarium/machine/components"
)

// stateFile says what this machine is, and what it was before: reset takes away
// what was not there.
const stateFile = "/var/lib/podarium/machine.json"

type state struct {
	ControlPlane bool               `json:"controlPlane"`
	Cluster      components.Cluster `json:"cluster"`
	Node         components.Node    `json:"node"`
	ExtraSANs    []string           `json:"extraSANs,omitempty"` // of the API server
	Before       before             `json:"before"`
}

// before is what init found of things which it shares with others.
type before struct {
	Sysctls map[string]string `json:"sysctls"`
	Folders []string          `json:"folders"`
	Modules []string          `json:"modules"`
	Tables  []string          `json:"tables"` // of nftables: "ip nat"
}

// sharedSysctls are those which we or our components change.
var sharedSysctls = []string{
	"net/ipv4/ip_forward",
	"net/bridge/bridge-nf-call-iptables",
	"net/ipv4/conf/all/route_localnet",
	"net/ipv4/conf/all/arp_ignore",
	"net/ipv4/conf/all/arp_announce",
	"net/ipv4/vs/conntrack",
	"net/ipv4/vs/conn_reuse_mode",
	"net/ipv4/vs/expire_nodest_conn",
	"net/ipv4/vs/expire_quiescent_template",
}

// sharedFolders are those in which others may have files too, inner ones first.
var sharedFolders = []string{
	"/etc/cni/net.d", "/etc/cni", "/opt/cni/bin", "/opt/cni", "/etc/logrotate.d", "/etc/modules-load.d", "/etc/sysctl.d", "/var/lib/podarium",
}

// loadState reads it; nil on a machine which is no node.
func loadState() (*state, error) {
	data, err := os.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what this machine is: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("read what this machine is from %s: %w; podarium reset removes what is there", stateFile, err)
	}
	return &s, nil
}

// admit checks the machine, and remembers what it becomes. A machine that is
// refused stays what it was.
func (m *Machine) admit(old *state, want state, checks []check, ignore []string) error {
	if err := m.preflight(checks, ignore); err != nil {
		want.Before.unloadModules() // the checks have loaded what they looked for
		return err
	}
	return remember(old, want)
}

// remember writes what this machine becomes. What it was before, an earlier run
// knows better.
func remember(old *state, s state) error {
	if old != nil {
		s.Before = old.Before
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode what this machine is: %w", err)
	}
	return atomicfile.Write(stateFile, append(data, '\n'), 0o600)
}

// lookBefore is called before anything else: the checks load modules.
func lookBefore() before {
	b := before{Sysctls: map[string]string{}, Tables: nftTables(), Modules: loadedModules()}
	for _, name := range sharedSysctls {
		if value := sysctl(name); value != "" {
			b.Sysctls[name] = value
		}
	}
	for _, dir := range sharedFolders {
		if exists(dir) {
			b.Folders = append(b.Folders, dir)
		}
	}
	return b
}

// nftTables lists the tables of nftables, where iptables-nft keeps its own too.
func nftTables() []string {
	out, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		return nil // no nft: then nobody sees tables
	}
	var tables []string
	for line := range strings.Lines(string(out)) {
		tables = append(tables, strings.TrimPrefix(strings.TrimSpace(line), "table "))
	}
	return tables
}

func loadedModules() []string {
	data, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sameCluster refuses to make another cluster over one that is there.
func (s *state) sameCluster(want state) error {
	switch {
	case s == nil:
		return nil
	case s.ControlPlane != want.ControlPlane && s.ControlPlane:
		return errors.New("this machine is the control plane of a cluster: `podarium reset` ends that")
	case s.ControlPlane != want.ControlPlane:
		return fmt.Errorf("this machine is a node of the cluster at %s: `podarium reset` ends that", s.Cluster.ControlPlane)
	case s.Node.Name != want.Node.Name:
		return fmt.Errorf("this machine is node %s already: use --node-name %s, or `podarium reset` first", s.Node.Name, s.Node.Name)
	case s.Cluster.ControlPlane != want.Cluster.ControlPlane:
		return fmt.Errorf("this machine belongs to the cluster at %s already: `podarium reset` ends that", s.Cluster.ControlPlane)
	case s.ControlPlane && (s.Cluster.ClusterCIDR != want.Cluster.ClusterCIDR || s.Cluster.ServiceClusterIPRange != want.Cluster.ServiceClusterIPRange):
		return fmt.Errorf("this cluster was made with --pod-network-cidr %s --service-cidr %s, which its objects carry: use these, or `podarium reset` first",
			s.Cluster.ClusterCIDR, s.Cluster.ServiceClusterIPRange)
	}
	return nil
}
