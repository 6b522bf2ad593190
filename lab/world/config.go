package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"

	"github.com/podarium/podarium/internal/atomicfile"
	"github.com/podarium/podarium/machine/components"
)

// Root is the folder that holds one state folder per lab.
const Root = "/var/lib/podarium"

// Config is what can be chosen about a lab. It is kept in the state folder as
// lab.json: the world, and every later command, reads it from there.
type Config struct {
	Name                  string       `json:"name"`
	Nodes                 int          `json:"nodes"`
	ProxyMode             string       `json:"proxyMode"`
	PodNetwork            string       `json:"podNetwork"`
	ClusterCIDR           netip.Prefix `json:"clusterCIDR"`
	ServiceClusterIPRange netip.Prefix `json:"serviceClusterIPRange"`
	NodeNetwork           netip.Prefix `json:"nodeNetwork"`
	EtcdServers           string       `json:"etcdServers,omitempty"`
	Verbosity             int          `json:"verbosity"`
	MaxPods               int          `json:"maxPods"`

	// Egress is where image pulls may go: "any", or "loopback" for registries
	// on the machine itself.
	Egress string `json:"egress"`

	// APIPort is the port on the machine's 127.0.0.1 where the API server is
	// reached; chosen free at the first `up` and kept.
	APIPort int `json:"apiPort"`
	// Executable is the podarium binary; the other programs lie beside it.
	Executable string `json:"executable"`
}

// Default is the address plan everything in this repository is written for.
func Default() Config {
	return Config{
		Name:                  "lab",
		Nodes:                 3,
		ProxyMode:             "iptables",
		PodNetwork:            "host-gw",
		ClusterCIDR:           netip.MustParsePrefix("10.244.0.0/16"),
		ServiceClusterIPRange: netip.MustParsePrefix("10.96.0.0/12"),
		NodeNetwork:           netip.MustParsePrefix("192.168.56.0/24"),
		Verbosity:             2,
		MaxPods:               110,
		Egress:                "any",
	}
}

// egresses are where image pulls may go.
var egresses = []string{"any", "loopback"}

var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// firstNode is the host part of node-1's address: 192.168.56.11.
const firstNode = 11

// maxNodes is what one /24 of pods per node and the node network leave room for.
const maxNodes = 20

// maxMaxPods is what a node's /24 has room for.
const maxMaxPods = 253

// Validate tells everything that is wrong at once, each with its flag.
func (c Config) Validate() error {
	var errs []error
	errs = append(errs, ValidName(c.Name))
	if c.MaxPods < 1 || c.MaxPods > maxMaxPods {
		errs = append(errs, fmt.Errorf("--max-pods %d: must be 1 to %d", c.MaxPods, maxMaxPods))
	}
	if c.Nodes < 1 || c.Nodes > maxNodes {
		errs = append(errs, fmt.Errorf("--nodes %d: must be 1 to %d", c.Nodes, maxNodes))
	}
	errs = append(errs, components.OneOf("--proxy-mode", c.ProxyMode, components.ProxyModes),
		components.OneOf("--pod-network", c.PodNetwork, components.PodNetworks), components.OneOf("--egress", c.Egress, egresses))
	errs = append(errs, c.validateRanges()...)
	return errors.Join(errs...)
}

// ValidName checks a lab's name: it becomes part of folders, cgroups and the
// kubectl context.
func ValidName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return fmt.Errorf("--name %q: use up to 32 lower-case letters, digits and '-'", name)
}

// validateRanges checks the sizes, and that the three networks share nothing.
func (c Config) validateRanges() []error {
	errs := []error{components.Disjoint(
		components.Range{Flag: "--cluster-cidr", Prefix: c.ClusterCIDR},
		components.Range{Flag: "--service-cluster-ip-range", Prefix: c.ServiceClusterIPRange},
		components.Range{Flag: "node network", Prefix: c.NodeNetwork},
	)}
	if bits := c.ClusterCIDR.Bits(); c.ClusterCIDR.IsValid() && (bits > 24 || 1<<(24-bits) <= c.Nodes) {
		errs = append(errs, fmt.Errorf("--cluster-cidr %s: too small for %d nodes of a /24 each", c.ClusterCIDR, c.Nodes))
	}
	if bits := c.ServiceClusterIPRange.Bits(); c.ServiceClusterIPRange.IsValid() && (bits > 27 || bits < 8) {
		errs = append(errs, fmt.Errorf("--service-cluster-ip-range %s: must be between /8 and /27", c.ServiceClusterIPRange))
	}
	return errs
}

// NodeName is node-1, node-2, …
func NodeName(number int) string { return fmt.Sprintf("node-%d", number) }

// NodeNumber is NodeName's reverse; ok is false for a node the lab has not.
func (c Config) NodeNumber(name string) (number int, ok bool) {
	for n := 1; n <= c.Nodes; n++ {
		if NodeName(n) == name {
			return n, true
		}
	}
	return 0, false
}

// NodeIP is 192.168.56.11 for node-1, .12 for node-2, …
func (c Config) NodeIP(number int) netip.Addr {
	return components.Nth(c.NodeNetwork, firstNode+number-1)
}

// SwitchIP is the world's own address on the switch, 192.168.56.1.
func (c Config) SwitchIP() netip.Addr { return components.Nth(c.NodeNetwork, 1) }

// HostURL is where the machine finds it.
func (c Config) HostURL() string { return fmt.Sprintf("https://127.0.0.1:%d", c.APIPort) }

// Context is the kubectl context: "podarium", or "podarium-NAME" for a lab
// that is not called "lab".
func (c Config) Context() string {
	if c.Name == Default().Name {
		return "podarium"
	}
	return "podarium-" + c.Name
}

// Dir is the lab's state folder; nothing of the lab is stored anywhere else.
func (c Config) Dir() string { return Dir(c.Name) }

// Dir is the state folder of the lab with that name.
func Dir(name string) string { return filepath.Join(Root, name) }

// Path is a path in the state folder.
func (c Config) Path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir()}, parts...)...)
}

// NodePath is a path in what belongs to one node alone.
func (c Config) NodePath(number int, parts ...string) string {
	return c.Path(append([]string{"nodes", NodeName(number)}, parts...)...)
}

// ImagesDir is the lab's image store, which all its nodes share.
func (c Config) ImagesDir() string { return c.Path("images") }

// AdminKubeconfig is the file with the administrator's credentials as the
// machine uses them.
func (c Config) AdminKubeconfig() string { return c.Path("admin.conf") }

// Load reads the configuration of an existing lab.
func Load(name string) (Config, error) {
	path := filepath.Join(Dir(name), "lab.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("no lab %q here: start one with `podarium up`: %w", name, os.ErrNotExist)
	}
	if err != nil {
		return Config{}, fmt.Errorf("load lab %s: %w", name, err)
	}
	cfg := Default() // for what an older version did not write
	if err := json.Unmarshal(data, &cfg); err != nil {
		return Config{}, Damaged(name, path, err)
	}
	if err := cfg.Validate(); err != nil {
		return Config{}, Damaged(name, path, err)
	}
	return cfg, nil
}

// Damaged is the one line for a state folder that cannot be used.
func Damaged(name, path string, err error) error {
	return fmt.Errorf("state of lab %s is damaged (%s: %w): remove it with `podarium down --name %s`, then start afresh", name, path, err, name)
}

// Save keeps the configuration in the state folder.
func (c Config) Save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("save lab %s: %w", c.Name, err)
	}
	return atomicfile.Write(c.Path("lab.json"), append(data, '\n'), 0o644)
}
