package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/podarium/podarium/apiserver"
	"github.com/podarium/podarium/internal/cli"
)

const apiserverHelp = `kube-apiserver serves the Kubernetes API. Everything in the cluster talks to it,
and to nothing else: kubectl, the controllers, the scheduler, every kubelet and
every proxy. It checks who asks and whether they may, fills in defaults, refuses
what makes no sense, gives Services their addresses, and keeps the result in etcd.

Without --etcd-servers, etcd runs within this process and keeps its data in
--data-dir; read it with

  etcdctl --endpoints=unix:///var/lib/etcd/etcd.sock get --prefix /registry/
`

// apiserverCommand reads the flags of kube-apiserver and runs it.
func apiserverCommand(ctx context.Context, args []string) error {
	fs := cli.NewFlagSet("kube-apiserver", apiserverHelp)
	var cfg apiserver.Config
	advertise := fs.String("advertise-address", "", "`address` by which pods reach this server, through the Service kubernetes")
	fs.StringVar(&cfg.BindAddress, "bind-address", "0.0.0.0", "`address` to listen on")
	fs.IntVar(&cfg.SecurePort, "secure-port", 6443, "`port` to listen on")
	fs.StringVar(&cfg.TLSCertFile, "tls-cert-file", "", "`file` with the server's certificate")
	fs.StringVar(&cfg.TLSKeyFile, "tls-private-key-file", "", "`file` with its key")
	fs.StringVar(&cfg.ClientCAFile, "client-ca-file", "", "`file` with the CA that signs client certificates")
	etcdServers := fs.String("etcd-servers", "", "comma separated `URLs` of an etcd cluster; empty: etcd within this process")
	fs.StringVar(&cfg.EtcdCAFile, "etcd-cafile", "", "`file` with the CA of etcd's certificates")
	fs.StringVar(&cfg.EtcdCertFile, "etcd-certfile", "", "`file` with the client certificate for etcd")
	fs.StringVar(&cfg.EtcdKeyFile, "etcd-keyfile", "", "`file` with its key")
	fs.StringVar(&cfg.DataDir, "data-dir", "/var/lib/etcd", "`directory` of the etcd within this process")
	fs.StringVar(&cfg.StorageMediaType, "storage-media-type", "application/json", "how objects are written to etcd: application/json or application/vnd.kubernetes.protobuf")
	serviceRange := fs.String("service-cluster-ip-range", "10.96.0.0/12", "`range` of the Services' addresses")
	nodePorts := fs.String("service-node-port-range", "30000-32767", "`range` of the Services' node ports")
	fs.StringVar(&cfg.ServiceAccountIssuer, "service-account-issuer", "https://kubernetes.default.svc.cluster.local", "issuer `URL` in ServiceAccount tokens")
	keyFiles := fs.String("service-account-key-file", "", "comma separated `files` with the public keys that check ServiceAccount tokens")
	fs.StringVar(&cfg.ServiceAccountSigningKeyFile, "service-account-signing-key-file", "", "`file` with the private key that signs them")
	fs.StringVar(&cfg.KubeletClientCert, "kubelet-client-certificate", "", "`file` with the client certificate for kubelets")
	fs.StringVar(&cfg.KubeletClientKey, "kubelet-client-key", "", "`file` with its key")
	fs.StringVar(&cfg.KubeletCA, "kubelet-certificate-authority", "", "`file` with the CA of the kubelets' certificates")
	fs.DurationVar(&cfg.RequestTimeout, "request-timeout", time.Minute, "`time` which a request may take, unless it is a watch, a shell or a followed log")
	fs.BoolVar(&cfg.EnableBootstrapTokens, "enable-bootstrap-token-auth", false, "accept bootstrap tokens: Secrets of type bootstrap.kubernetes.io/token in kube-system")
	fs.StringVar(&cfg.AuditLog.Path, "audit-log-path", "", "`file` that tells who did what, a line of JSON for each request; - for standard output")
	fs.IntVar(&cfg.AuditLog.MaxSizeMB, "audit-log-maxsize", 100, "`megabytes` at which the audit log is renamed and begun anew")
	fs.IntVar(&cfg.AuditLog.MaxBackup, "audit-log-maxbackup", 0, "`number` of renamed audit logs that stay; 0 keeps all")
	fs.BoolVar(&cfg.Profiling, "profiling", true, "tell what the server spends time and memory on, at /debug/pprof/")
	authorization := fs.String("authorization-mode", "Node,RBAC", "only this value")
	var logs cli.LogFlags
	logs.Define(fs)
	if err := cli.Parse(fs, args); err != nil {
		return err
	}
	if *authorization != "Node,RBAC" {
		return fmt.Errorf("--authorization-mode %q: only Node,RBAC is offered", *authorization)
	}
	var err error
	if cfg.AdvertiseAddress, err = netip.ParseAddr(*advertise); err != nil {
		return fmt.Errorf("--advertise-address %q is not an IP address", *advertise)
	}
	if cfg.ServiceClusterIPRange, err = netip.ParsePrefix(*serviceRange); err != nil {
		return fmt.Errorf("--service-cluster-ip-range %q is not a range such as 10.96.0.0/12", *serviceRange)
	}
	if cfg.NodePortMin, cfg.NodePortMax, err = portRange(*nodePorts); err != nil {
		return fmt.Errorf("--service-node-port-range %q: %w", *nodePorts, err)
	}
	cfg.EtcdServers = splitList(*etcdServers)
	cfg.ServiceAccountKeyFiles = splitList(*keyFiles)
	if cfg.ExtraListeners, err = passedListeners(); err != nil {
		return err
	}
	if err := logs.Setup(); err != nil {
		return err
	}
	boundGarbage()
	return apiserver.Run(ctx, cfg)
}

// portRange reads "30000-32767".
func portRange(s string) (first, last int, err error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, fmt.Errorf("want FIRST-LAST")
	}
	if first, err = strconv.Atoi(from); err != nil {
		return 0, 0, fmt.Errorf("%q is not a port", from)
	}
	if last, err = strconv.Atoi(to); err != nil {
		return 0, 0, fmt.Errorf("%q is not a port", to)
	}
	return first, last, nil
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// passedListeners are the sockets that whoever started this process opened
// beforehand (file descriptors 3 and up, counted in LISTEN_FDS, as
// sd_listen_fds(3) describes): the lab hands over one on the host's 127.0.0.1.
func passedListeners() ([]net.Listener, error) {
	count := os.Getenv("LISTEN_FDS")
	if count == "" {
		return nil, nil
	}
	if pid := os.Getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("LISTEN_FDS=%q is not a number", count)
	}
	var list []net.Listener
	for fd := 3; fd < 3+n; fd++ {
		f := os.NewFile(uintptr(fd), "listener")
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("use file descriptor %d as listener: %w", fd, err)
		}
		list = append(list, l)
	}
	return list, nil
}
