package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/kubelet"
	"github.com/podarium/podarium/kubelet/runtime"
)

const kubeletHelp = `kubelet is the node agent: it runs the pods which are assigned to its node, as
containers made by runc, and tells the API server how they are.

  podarium kubelet --kubeconfig /etc/kubernetes/kubelet.conf --node-ip 192.168.56.11

Stopping the kubelet stops no container; the next one finds them again.
`

// kubeletFlags are the kubelet's flags as they were typed.
type kubeletFlags struct {
	kubeconfig, hostname, nodeIP, labels, taints string
	rootDir, logDir, imageRoot, shim, cgroupRoot string
	clusterDNS, clusterDomain, resolvConf        string
	cniConfDir, cniBinDir, cniCacheDir           string
	clientCA, cert, key, address, pullProxy      string
	clusterCIDR, podNetwork, manifests           string
	logMaxSize                                   string
	unsafeSysctls                                string
	port, leaseSeconds                           int
	certDir                                      string
	rotate                                       bool
	logs                                         cli.LogFlags
	maxPods, logMaxFiles, parallelStarts         int
	seccompDefault                               bool
	imageGC                                      kubelet.ImageGCPolicy
	eviction                                     evictionFlags
}

func kubeletCommand(ctx context.Context, args []string) error {
	f, err := parseKubeletFlags(args)
	if err != nil {
		return err
	}
	if err := f.logs.Setup(); err != nil {
		return err
	}
	cfg, err := f.config()
	if err != nil {
		return err
	}
	if cfg.Client, err = kube.Client(f.kubeconfig, "kubelet"); err != nil {
		return err
	}
	if !f.rotate {
		return withPodNetwork(ctx, f, cfg)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	renewing := make(chan error, 1)
	go func() {
		renewing <- kubelet.RotateCertificate(ctx, cfg.Client, cfg.NodeName, f.certDir)
		cancel()
	}()
	err = withPodNetwork(ctx, f, cfg)
	cancel()
	return errors.Join(err, <-renewing)
}

// withPodNetwork runs the kubelet and, beside it, what keeps this node's routes and CNI configuration.
// Without --cluster-cidr somebody else configures the pod network.
func withPodNetwork(ctx context.Context, f kubeletFlags, cfg kubelet.Config) error {
	if f.clusterCIDR == "" {
		return kubelet.Run(ctx, cfg)
	}
	cidr, err := netip.ParsePrefix(f.clusterCIDR)
	if err != nil {
		return fmt.Errorf("--cluster-cidr %q is not a range such as 10.244.0.0/16", f.clusterCIDR)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	network := podNetwork{node: cfg.NodeName, mode: f.podNetwork, clusterCIDR: cidr, confDir: cfg.CNIConfDir, binDir: cfg.CNIBinDir}
	done := make(chan error, 1)
	go func() { done <- network.run(ctx, cfg.Client) }()
	err = kubelet.Run(ctx, cfg)
	cancel()
	return errors.Join(err, <-done)
}

func parseKubeletFlags(args []string) (kubeletFlags, error) {
	var f kubeletFlags
	flags := cli.NewFlagSet("kubelet", kubeletHelp)
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` which says where the API server is and who we are")
	flags.StringVar(&f.hostname, "hostname-override", "", "`name` of the node; default: the host name")
	flags.StringVar(&f.nodeIP, "node-ip", "", "`address` of the node; two with a comma for two families")
	flags.StringVar(&f.labels, "node-labels", "", "`labels` to register with: key=value,…")
	flags.StringVar(&f.taints, "register-with-taints", "", "`taints` to register with: key=value:effect,…")
	flags.StringVar(&f.rootDir, "root-dir", "/var/lib/kubelet", "`directory` of all state")
	flags.StringVar(&f.logDir, "pod-logs-dir", "/var/log/pods", "`directory` of the containers' logs")
	flags.StringVar(&f.imageRoot, "image-root", "/var/lib/podarium/images", "`directory` of the images; several nodes may share one")
	flags.IntVar(&f.imageGC.HighThreshold, "image-gc-high-threshold", 85, "`percent` of the images' file system in use from which on unused images are removed, 0 to 100; 100 never removes any")
	flags.IntVar(&f.imageGC.LowThreshold, "image-gc-low-threshold", 80, "`percent` in use at which that ends, 0 to 100 and less than --image-gc-high-threshold")
	flags.DurationVar(&f.imageGC.MinAge, "minimum-image-ttl-duration", 2*time.Minute, "`duration` for which a new image stays, used or not, such as 300ms, 10s or 2h45m")
	flags.StringVar(&f.shim, "container-shim", "", "`program` which is the parent of containers; default: podarium-shim beside this program")
	flags.StringVar(&f.cgroupRoot, "cgroup-root", "", "control `group` under which /kubepods is made")
	flags.StringVar(&f.clusterDNS, "cluster-dns", "", "`address` of the cluster's DNS, several with commas")
	flags.StringVar(&f.clusterDomain, "cluster-domain", "cluster.local", "`domain` of the cluster")
	flags.StringVar(&f.resolvConf, "resolv-conf", "/etc/resolv.conf", "the node's resolver `file`, for pods with dnsPolicy Default")
	flags.StringVar(&f.cniConfDir, "cni-conf-dir", "/etc/cni/net.d", "`directory` of CNI configurations; the first by name counts")
	flags.StringVar(&f.cniBinDir, "cni-bin-dir", "/opt/cni/bin", "`directory` of CNI plugins")
	flags.StringVar(&f.cniCacheDir, "cni-cache-dir", "/var/lib/cni", "`directory` in which CNI attachments are noted")
	flags.StringVar(&f.clusterCIDR, "cluster-cidr", "", "`range` of all pods; with it the kubelet keeps routes and the CNI configuration")
	flags.StringVar(&f.podNetwork, "pod-network", "host-gw", "how pods reach other nodes: host-gw (native routing) or vxlan (overlay)")
	flags.StringVar(&f.manifests, "pod-manifest-path", "", "`directory` of static pods' manifests, which run without an API server")
	flags.StringVar(&f.clientCA, "client-ca-file", "", "`file` of the CA whose clients may use the kubelet's API")
	flags.StringVar(&f.cert, "tls-cert-file", "", "`file` of the kubelet API's certificate")
	flags.StringVar(&f.key, "tls-private-key-file", "", "`file` of its key")
	flags.StringVar(&f.address, "address", "", "`address` of the kubelet's API; default: all")
	flags.IntVar(&f.port, "port", 10250, "`port` of the kubelet's API")
	flags.StringVar(&f.pullProxy, "image-pull-proxy", "", "HTTP proxy for image pulls, unix:///`socket`")
	flags.IntVar(&f.leaseSeconds, "node-lease-duration", 40, "`seconds` which a heartbeat holds; the interval is a quarter")
	flags.IntVar(&f.maxPods, "max-pods", 110, "how many `pods` the node takes")
	flags.IntVar(&f.parallelStarts, "parallel-pod-starts", 0, "how `many` sandboxes and containers start at once; 0: one per processor")
	flags.BoolVar(&f.seccompDefault, "seccomp-default", false, "give containers without a seccomp profile the default one")
	flags.StringVar(&f.unsafeSysctls, "allowed-unsafe-sysctls", "", "`names` of settings which pods may have beside the safe ones, with commas: net.core.somaxconn,kernel.msg*")
	flags.StringVar(&f.logMaxSize, "container-log-max-size", "10Mi", "`size` at which a container's log file is put aside")
	flags.IntVar(&f.logMaxFiles, "container-log-max-files", 5, "how many log `files` of a container stay, at least 2")
	flags.BoolVar(&f.rotate, "rotate-certificates", false, "ask for the next client certificate before the present one ends")
	flags.StringVar(&f.certDir, "cert-dir", "/var/lib/kubelet/pki", "`directory` of kubelet-client-current.pem, which --kubeconfig names, with --rotate-certificates")
	f.eviction.define(flags)
	f.logs.Define(flags)
	return f, cli.Parse(flags, args)
}

// config checks the flags and says what is wrong with all of them at once.
func (f kubeletFlags) config() (kubelet.Config, error) {
	cfg := kubelet.Config{
		NodeName: strings.ToLower(f.hostname),
		RootDir:  f.rootDir, LogDir: f.logDir, ImageRoot: f.imageRoot, ShimPath: f.shim, CgroupRoot: f.cgroupRoot,
		ClusterDomain: f.clusterDomain, ResolvConf: f.resolvConf,
		StaticPodPath: f.manifests,
		CNIConfDir:    f.cniConfDir, CNIBinDir: f.cniBinDir, CNICacheDir: f.cniCacheDir,
		Address: f.address, Port: f.port, ClientCAFile: f.clientCA, TLSCertFile: f.cert, TLSKeyFile: f.key,
		LeaseDuration:  time.Duration(f.leaseSeconds) * time.Second,
		ParallelStarts: f.parallelStarts, MaxPods: f.maxPods, SeccompDefault: f.seccompDefault,
		ImageGC: f.imageGC,
	}
	var errs []error
	problem := func(err error) { errs = append(errs, err) }
	for flag, value := range map[string]string{"client-ca-file": f.clientCA, "tls-cert-file": f.cert, "tls-private-key-file": f.key, "node-ip": f.nodeIP} {
		if value == "" {
			problem(fmt.Errorf("--%s is needed", flag))
		}
	}
	if f.podNetwork != "host-gw" && f.podNetwork != "vxlan" {
		problem(fmt.Errorf("--pod-network %q: must be host-gw or vxlan", f.podNetwork))
	}
	if f.leaseSeconds < 4 {
		problem(fmt.Errorf("--node-lease-duration %d is less than 4", f.leaseSeconds))
	}
	if f.parallelStarts < 0 {
		problem(fmt.Errorf("--parallel-pod-starts %d is less than 0", f.parallelStarts))
	}
	problem(f.imageGC.Validate())
	if f.maxPods < 1 {
		problem(fmt.Errorf("--max-pods %d is less than 1", f.maxPods))
	}
	cfg.AllowedUnsafeSysctls = strings.FieldsFunc(f.unsafeSysctls, func(r rune) bool { return r == ',' })
	if err := kubelet.CheckUnsafeSysctls(cfg.AllowedUnsafeSysctls); err != nil {
		problem(fmt.Errorf("--allowed-unsafe-sysctls: %w", err))
	}
	var err error
	cfg.Eviction, err = f.eviction.policy()
	problem(err)
	cfg.Logs, err = logLimits(f.logMaxSize, f.logMaxFiles)
	problem(err)
	cfg.NodeIPs, err = addressList("node-ip", f.nodeIP)
	problem(err)
	cfg.ClusterDNS, err = addressList("cluster-dns", f.clusterDNS)
	problem(err)
	cfg.NodeLabels, err = nodeLabels(f.labels)
	problem(err)
	cfg.Taints, err = nodeTaints(f.taints)
	problem(err)
	if f.pullProxy != "" {
		socket, ok := strings.CutPrefix(f.pullProxy, "unix://")
		if !ok {
			problem(fmt.Errorf("--image-pull-proxy %q does not begin with unix://", f.pullProxy))
		}
		cfg.ImagePullProxy = socket
	}
	if cfg.NodeName == "" {
		cfg.NodeName, err = os.Hostname()
		problem(err)
	}
	if cfg.ShimPath == "" {
		self, err := os.Executable()
		problem(err)
		cfg.ShimPath = filepath.Join(filepath.Dir(self), "podarium-shim")
	}
	return cfg, errors.Join(errs...)
}

func logLimits(size string, files int) (runtime.LogLimits, error) {
	quantity, err := resource.ParseQuantity(size)
	if err != nil || quantity.Value() <= 0 {
		return runtime.LogLimits{}, fmt.Errorf("--container-log-max-size %q is not a size such as 10Mi", size)
	}
	if files < 2 {
		return runtime.LogLimits{}, fmt.Errorf("--container-log-max-files %d is less than 2", files)
	}
	return runtime.LogLimits{MaxSize: quantity.Value(), MaxFiles: files}, nil
}

func addressList(flag, text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for _, address := range list {
		if net.ParseIP(address) == nil {
			return nil, fmt.Errorf("--%s: %q is no IP address", flag, address)
		}
	}
	return list, nil
}

func nodeLabels(text string) (map[string]string, error) {
	labels := map[string]string{}
	if text == "" {
		return labels, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--node-labels: %q is not key=value", pair)
		}
		labels[key] = value
	}
	return labels, nil
}

func nodeTaints(text string) ([]corev1.Taint, error) {
	if text == "" {
		return nil, nil
	}
	var taints []corev1.Taint
	for item := range strings.SplitSeq(text, ",") {
		pair, effect, ok := strings.Cut(item, ":")
		key, value, _ := strings.Cut(pair, "=")
		taint := corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
		switch taint.Effect {
		case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			ok = false
		}
		if !ok || key == "" {
			return nil, fmt.Errorf("--register-with-taints: %q is not key=value:NoSchedule, :PreferNoSchedule or :NoExecute", item)
		}
		taints = append(taints, taint)
	}
	return taints, nil
}
