package lab

import (
	"errors"
	"fmt"
	"os"

	"github.com/podarium/podarium/lab/world"
	"github.com/podarium/podarium/machine"
	"github.com/podarium/podarium/machine/components"
)

// writeIdentities makes the cluster's CA once, and from it everything a node
// needs to know and to be known, by the same steps as `podarium init`. On a lab
// that was up before, nothing is made again: its tokens and certificates stay valid.
func writeIdentities(cfg world.Config) error {
	if err := os.MkdirAll(cfg.Path("pki"), 0o700); err != nil {
		return fmt.Errorf("write identities: %w", err)
	}
	ca, _, err := machine.EnsureCA(cfg.Path("pki", "ca.crt"), cfg.Path("pki", "ca.key"))
	if err != nil {
		return world.Damaged(cfg.Name, cfg.Path("pki"), err)
	}
	of := func(number int) machine.Identities {
		return machine.Identities{Root: cfg.NodePath(number), CA: ca, Context: cfg.Context(), Server: cfg.Cluster().ServerURL()}
	}
	errs := []error{of(1).ControlPlane(cfg.Cluster(), node(cfg, 1))}
	for n := 1; n <= cfg.Nodes; n++ {
		errs = append(errs, of(n).Node(node(cfg, n)))
	}
	// The machine's own copy: here the API server is at 127.0.0.1.
	here := machine.Identities{Root: "/", CA: ca, Context: cfg.Context(), Server: cfg.HostURL()}
	errs = append(errs, here.Kubeconfig(cfg.AdminKubeconfig(), machine.AdminClient))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write identities: %w", err)
	}
	return nil
}

func node(cfg world.Config, number int) components.Node {
	return components.Node{Name: world.NodeName(number), IP: cfg.NodeIP(number)}
}
