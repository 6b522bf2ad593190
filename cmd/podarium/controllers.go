package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/podarium/podarium/controllers"
	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
)

const controllerManagerHelp = `kube-controller-manager runs the loops which make the cluster what its objects say:
a Deployment gets a ReplicaSet, a ReplicaSet gets pods, a Service gets the
addresses of its pods, a node gets addresses for pods.

  podarium controller-manager --kubeconfig /etc/kubernetes/controller-manager.conf \
      --allocate-node-cidrs --cluster-cidr 10.244.0.0/16 --root-ca-file /etc/kubernetes/pki/ca.crt
`

func controllerManagerCommand(ctx context.Context, args []string) error {
	flags := cli.NewFlagSet("kube-controller-manager", controllerManagerHelp)
	kubeconfig := flags.String("kubeconfig", "", "`file` which says where the API server is and who we are")
	allocate := flags.Bool("allocate-node-cidrs", false, "give every node a piece of --cluster-cidr")
	clusterCIDR := flags.String("cluster-cidr", "", "`range` of pod addresses, such as 10.244.0.0/16")
	maskSize := flags.Int("node-cidr-mask-size", 0, "prefix `length` of a node's piece (default 24, IPv6 64)")
	rootCA := flags.String("root-ca-file", "", "`file` with the CA certificate which is put into every namespace")
	signingCert := flags.String("cluster-signing-cert-file", "", "`file` with the CA certificate for approved certificate requests; empty: nothing is signed")
	signingKey := flags.String("cluster-signing-key-file", "", "`file` with its key")
	signingDuration := flags.Duration("cluster-signing-duration", 365*24*time.Hour, "`time` which a signed certificate holds at most")
	grace := flags.Duration("node-monitor-grace-period", 50*time.Second, "`time` after which a silent node counts as unreachable")
	list := flags.String("controllers", "*", "`names`, comma separated; '*' is all, '-x' is without x: "+strings.Join(controllers.Names(), ", "))
	elect := flags.Bool("leader-elect", true, "work only while holding the Lease kube-system/kube-controller-manager")
	bind := flags.String("bind-address", "127.0.0.1", "`address` of /healthz")
	port := flags.Int("secure-port", 10257, "`port` of /healthz, 0 for none")
	var logs cli.LogFlags
	logs.Define(flags)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	if err := logs.Setup(); err != nil {
		return err
	}
	cfg := controllers.Config{
		AllocateNodeCIDRs: *allocate, NodeMonitorGracePeriod: *grace, LeaderElect: *elect,
		Controllers: strings.Split(*list, ","), HealthAddress: healthAddress(*bind, *port),
	}
	if *grace <= 0 {
		return fmt.Errorf("--node-monitor-grace-period must be longer than zero, not %s", *grace)
	}
	var err error
	if cfg.ClusterCIDR, cfg.NodeCIDRMaskSize, err = nodeCIDRFlags(*allocate, *clusterCIDR, *maskSize); err != nil {
		return err
	}
	if cfg.SigningCA, err = signingCA(*signingCert, *signingKey); err != nil {
		return err
	}
	cfg.SigningDuration = *signingDuration
	if *rootCA != "" {
		if cfg.RootCA, err = os.ReadFile(*rootCA); err != nil {
			return fmt.Errorf("read --root-ca-file: %w", err)
		}
	}
	if cfg.Identity, err = os.Hostname(); err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	if cfg.API, err = kube.Config(*kubeconfig, "kube-controller-manager"); err != nil {
		return err
	}
	return controllers.Run(ctx, cfg)
}

// signingCA is nil when neither file is named.
func signingCA(certFile, keyFile string) (*pki.CA, error) {
	if (certFile == "") != (keyFile == "") {
		return nil, errors.New("--cluster-signing-cert-file and --cluster-signing-key-file go together: give both or none")
	}
	if certFile == "" {
		return nil, nil
	}
	return pki.LoadCA(certFile, keyFile)
}

// nodeCIDRFlags checks that --cluster-cidr can be cut into pieces of --node-cidr-mask-size.
func nodeCIDRFlags(allocate bool, text string, bits int) (netip.Prefix, int, error) {
	if !allocate {
		return netip.Prefix{}, 0, nil
	}
	if text == "" {
		return netip.Prefix{}, 0, errors.New("--allocate-node-cidrs needs --cluster-cidr, such as 10.244.0.0/16")
	}
	cidr, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, 0, fmt.Errorf("--cluster-cidr %q is not a range such as 10.244.0.0/16: %w", text, err)
	}
	if cidr != cidr.Masked() {
		return netip.Prefix{}, 0, fmt.Errorf("--cluster-cidr %s has bits behind the prefix; did you mean %s?", text, cidr.Masked())
	}
	if bits == 0 {
		bits = 24
		if cidr.Addr().Is6() {
			bits = 64
		}
	}
	if bits <= cidr.Bits() || bits > cidr.Addr().BitLen()-2 {
		return netip.Prefix{}, 0, fmt.Errorf("--node-cidr-mask-size %d does not cut %s into pieces for nodes; use one from %d to %d",
			bits, cidr, cidr.Bits()+1, cidr.Addr().BitLen()-2)
	}
	if bits-cidr.Bits() > 16 {
		return netip.Prefix{}, 0, fmt.Errorf("--node-cidr-mask-size %d cuts %s into more than 65536 pieces; use %d or less", bits, cidr, cidr.Bits()+16)
	}
	return cidr, bits, nil
}

func healthAddress(address string, port int) string {
	if port == 0 {
		return ""
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}
