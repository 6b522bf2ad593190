package apiserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/podarium/podarium/apiserver/store"
)

// Config says where the server listens, where etcd is, and with which keys the
// server shows and checks identities. File names are paths; empty ones are
// left out as each field tells.
type Config struct {
	// AdvertiseAddress is how pods reach this server through the Service
	// kubernetes: the address in its EndpointSlice.
	AdvertiseAddress netip.Addr
	BindAddress      string // "0.0.0.0"
	SecurePort       int    // 6443; 0 takes any free one

	// ExtraListeners are served too: sockets which somebody else opened.
	ExtraListeners []net.Listener
	// Listening, when set, is called once with the address of the port.
	Listening func(net.Addr)

	TLSCertFile, TLSKeyFile string
	ClientCAFile            string

	// EtcdServers are the URLs of an etcd cluster. When there are none, etcd
	// runs within this process on DataDir.
	EtcdServers                           []string
	EtcdCAFile, EtcdCertFile, EtcdKeyFile string
	DataDir                               string
	StorageMediaType                      string // "application/json" (default) or protobuf's

	ServiceClusterIPRange netip.Prefix // 10.96.0.0/12
	NodePortMin           int          // 30000
	NodePortMax           int          // 32767, inclusive

	// Tokens of ServiceAccounts: who issues them, the public keys that check
	// them, and the private key that signs new ones.
	ServiceAccountIssuer         string
	ServiceAccountKeyFiles       []string
	ServiceAccountSigningKeyFile string

	// RequestTimeout is how long a request may take that is no watch, no
	// shell and no followed log; 0 means a minute.
	RequestTimeout time.Duration

	// HeaderTimeout is how long a client may take to send a request's header;
	// 0 means 32 s. UnreadTimeout is how long a watch may leave what was sent to
	// it unread; 0 means 30 s.
	HeaderTimeout, UnreadTimeout time.Duration

	// EnableBootstrapTokens lets machines join with a token of kube-system.
	EnableBootstrapTokens bool

	AuditLog AuditLog

	// Profiling offers /debug/pprof/.
	Profiling bool

	// Identity towards kubelets, for logs, exec, attach and port-forward.
	KubeletClientCert, KubeletClientKey, KubeletCA string
}

// validate finds what cannot work before anything is started.
func (c *Config) validate() error {
	var errs []error
	need := func(value, flag string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("--%s is missing", flag))
		}
	}
	need(c.TLSCertFile, "tls-cert-file")
	need(c.TLSKeyFile, "tls-private-key-file")
	need(c.ClientCAFile, "client-ca-file")
	if len(c.EtcdServers) == 0 {
		need(c.DataDir, "data-dir")
	}
	if !c.AdvertiseAddress.IsValid() {
		errs = append(errs, errors.New("--advertise-address is missing: the address by which pods reach this server"))
	}
	if !c.ServiceClusterIPRange.IsValid() || !c.ServiceClusterIPRange.Addr().Is4() {
		errs = append(errs, errors.New("--service-cluster-ip-range must be an IPv4 range such as 10.96.0.0/12"))
	} else if c.ServiceClusterIPRange.Bits() > 28 || c.ServiceClusterIPRange.Bits() < 8 {
		errs = append(errs, fmt.Errorf("--service-cluster-ip-range %s must be between /8 and /28", c.ServiceClusterIPRange))
	} else if c.ServiceClusterIPRange.Contains(c.AdvertiseAddress) {
		errs = append(errs, fmt.Errorf("--advertise-address %s lies within --service-cluster-ip-range %s", c.AdvertiseAddress, c.ServiceClusterIPRange))
	}
	if c.NodePortMin < 1 || c.NodePortMax > 65535 || c.NodePortMin > c.NodePortMax {
		errs = append(errs, fmt.Errorf("--service-node-port-range %d-%d is not a range of ports", c.NodePortMin, c.NodePortMax))
	}
	if t := c.StorageMediaType; t != "" && t != mediaJSON && t != mediaProtobuf {
		errs = append(errs, fmt.Errorf("--storage-media-type %q: want %s or %s", t, mediaJSON, mediaProtobuf))
	}
	return errors.Join(errs...)
}

// storeTLS is nil when no etcd certificate is given.
func (c *Config) storeTLS() (*tls.Config, error) {
	if c.EtcdCAFile == "" && c.EtcdCertFile == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.EtcdCAFile != "" {
		pool, err := certPool(c.EtcdCAFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if c.EtcdCertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.EtcdCertFile, c.EtcdKeyFile)
		if err != nil {
			return nil, fmt.Errorf("load etcd client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// storeConfig says where etcd is; Run adds the one within this process.
func (c *Config) storeConfig(tables []string, codec store.Codec) (store.Config, error) {
	tlsConfig, err := c.storeTLS()
	return store.Config{Endpoints: c.EtcdServers, TLS: tlsConfig, Tables: tables, Codec: codec}, err
}
