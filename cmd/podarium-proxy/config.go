package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/kube-proxy/config/v1alpha1"
)

// readConfig takes all settings out of --config, a KubeProxyConfiguration as
// kubeadm writes it into the ConfigMap kube-proxy. What the file leaves out has
// its default. Of the flags only the Node's name and those of the log count.
func (f *proxyFlags) readConfig() error {
	text, err := os.ReadFile(f.config)
	if err != nil {
		return fmt.Errorf("read --config: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("read --config: %w", err)
	}
	object, _, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return fmt.Errorf("read --config %s: %w", f.config, err)
	}
	cfg, ok := object.(*v1alpha1.KubeProxyConfiguration)
	if !ok {
		return fmt.Errorf("read --config %s: it is a %T", f.config, object)
	}
	var fresh proxyFlags
	fresh.define(flag.NewFlagSet("", flag.ContinueOnError))
	fresh.node, fresh.logs = f.node, f.logs
	if fresh.node == "" {
		fresh.node = cfg.HostnameOverride
	}
	fresh.take(cfg)
	*f = fresh
	return nil
}

func (f *proxyFlags) take(cfg *v1alpha1.KubeProxyConfiguration) {
	given(&f.kubeconfig, cfg.ClientConnection.Kubeconfig)
	given(&f.mode, string(cfg.Mode))
	given(&f.detectLocal, string(cfg.DetectLocalMode))
	given(&f.bindAddress, cfg.BindAddress)
	given(&f.clusterCIDR, cfg.ClusterCIDR)
	given(&f.podBridge, cfg.DetectLocal.BridgeInterface)
	given(&f.podInterfacePrefix, cfg.DetectLocal.InterfaceNamePrefix)
	given(&f.nodePortAddresses, strings.Join(cfg.NodePortAddresses, ","))
	given(&f.health, cfg.HealthzBindAddress)
	given(&f.metrics, cfg.MetricsBindAddress)
	set32(&f.oomScoreAdj, cfg.OOMScoreAdj)
	if cfg.IPTables.LocalhostNodePorts != nil {
		f.localhostNodePorts = *cfg.IPTables.LocalhostNodePorts
	}
	bit, all, period, least := cfg.IPTables.MasqueradeBit, cfg.IPTables.MasqueradeAll, cfg.IPTables.SyncPeriod, cfg.IPTables.MinSyncPeriod
	if f.mode == "nftables" {
		bit, all, period, least = cfg.NFTables.MasqueradeBit, cfg.NFTables.MasqueradeAll, cfg.NFTables.SyncPeriod, cfg.NFTables.MinSyncPeriod
	}
	if bit != nil {
		f.masqueradeBit = uint(*bit)
	}
	f.masqueradeAll = all
	given(&f.syncPeriod, period.Duration)
	given(&f.minSyncPeriod, least.Duration)
	f.ipvs.take(cfg.IPVS)
	f.conntrack.take(cfg.Conntrack)
}

func (f *ipvsFlags) take(cfg v1alpha1.KubeProxyIPVSConfiguration) {
	given(&f.scheduler, cfg.Scheduler)
	given(&f.excludeCIDRs, strings.Join(cfg.ExcludeCIDRs, ","))
	given(&f.syncPeriod, cfg.SyncPeriod.Duration)
	given(&f.minSyncPeriod, cfg.MinSyncPeriod.Duration)
	f.strictARP = cfg.StrictARP
	f.tcpTimeout, f.tcpFinTimeout, f.udpTimeout = cfg.TCPTimeout.Duration, cfg.TCPFinTimeout.Duration, cfg.UDPTimeout.Duration
}

func (f *conntrackFlags) take(cfg v1alpha1.KubeProxyConntrackConfiguration) {
	set32(&f.maxPerCore, cfg.MaxPerCore)
	set32(&f.min, cfg.Min)
	setDuration(&f.tcpEstablished, cfg.TCPEstablishedTimeout)
	setDuration(&f.tcpCloseWait, cfg.TCPCloseWaitTimeout)
	f.tcpBeLiberal, f.udp, f.udpStream = cfg.TCPBeLiberal, cfg.UDPTimeout.Duration, cfg.UDPStreamTimeout.Duration
}

// given takes a value over where the file has one.
func given[T comparable](setting *T, value T) {
	var none T
	if value != none {
		*setting = value
	}
}

func set32(setting *int, value *int32) {
	if value != nil {
		*setting = int(*value)
	}
}

func setDuration(setting *time.Duration, value *metav1.Duration) {
	if value != nil {
		*setting = value.Duration
	}
}
