package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Config is our part of a network configuration, as it lies in /etc/cni/net.d:
//
//	{"cniVersion": "1.1.0", "name": "podarium", "plugins": [
//	  {"type": "podarium", "subnet": "10.244.1.0/24", "mtu": 1500}]}
type Config struct {
	types.PluginConf

	// Bridge is the bridge's name, cni0 when empty.
	Bridge string `json:"bridge,omitempty"`
	// Subnet is the node's share of the pods' addresses. Its first address is
	// the bridge's own.
	Subnet netip.Prefix `json:"subnet"`
	// MTU in bytes of every interface; 0 leaves the kernel's 1500. On an
	// overlay it must leave room for the outer header: 1450 with VXLAN.
	MTU int `json:"mtu,omitempty"`
	// DataDir holds a file for each address given out.
	DataDir string `json:"dataDir,omitempty"`
}

const defaultDataDir = "/var/lib/cni/podarium"

// Versions are the versions of the specification whose verbs we answer.
var Versions = version.PluginSupports("0.4.0", "1.0.0", "1.1.0")

// Error codes of the specification, §5; from 100 on they are the plugin's own.
const (
	errAddressesExhausted = 100
	errNotAsConfigured    = 101
)

// parseConfig reads the configuration from standard input's bytes and says
// which field is wrong.
func parseConfig(stdin []byte) (*Config, error) {
	var cfg Config
	if err := json.Unmarshal(stdin, &cfg); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "network configuration cannot be read", err.Error())
	}
	if err := version.ParsePrevResult(&cfg.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult cannot be read", err.Error())
	}
	if cfg.Bridge == "" {
		cfg.Bridge = DefaultBridge
	}
	if cfg.DataDir == "" {
		cfg.DataDir = defaultDataDir
	}
	return &cfg, cfg.validate()
}

func (c *Config) validate() error {
	invalid := func(field, what string) error {
		return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("%s in network %q: %s", field, c.Name, what), "")
	}
	switch {
	case !c.Subnet.IsValid() || !c.Subnet.Addr().Is4():
		return invalid("subnet", "must be an IPv4 range such as 10.244.1.0/24")
	case c.Subnet.Bits() > 30:
		return invalid("subnet", fmt.Sprintf("%s has no room for pods", c.Subnet))
	case c.MTU < 0 || c.MTU > 65535:
		return invalid("mtu", "must be 0 to 65535")
	case len(c.Bridge) > 15:
		return invalid("bridge", fmt.Sprintf("%q is longer than the 15 characters an interface name may have", c.Bridge))
	}
	c.Subnet = c.Subnet.Masked()
	return nil
}

// gateway is the subnet's first address, the bridge's own.
func (c *Config) gateway() netip.Addr { return c.Subnet.Addr().Next() }

// previous is the result of the plugin before us in a chain, or of our own ADD
// in a CHECK; nil when there is none.
func (c *Config) previous() (*types100.Result, error) {
	if c.PrevResult == nil {
		return nil, nil
	}
	result, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult cannot be converted", err.Error())
	}
	return result, nil
}
