package main

import (
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	componentbaseconfig "k8s.io/component-base/config/v1alpha1"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
)

// configz is the configuration in the form of kube-proxy's configuration file,
// as its /configz shows it. A period is shown at the mode it is used by.
func (f *proxyFlags) configz() v1alpha1.KubeProxyConfiguration {
	cfg := v1alpha1.KubeProxyConfiguration{
		TypeMeta:           metav1.TypeMeta{Kind: "KubeProxyConfiguration", APIVersion: v1alpha1.SchemeGroupVersion.String()},
		ClientConnection:   componentbaseconfig.ClientConnectionConfiguration{Kubeconfig: f.kubeconfig, ContentType: "application/vnd.kubernetes.protobuf"},
		Logging:            logsapi.LoggingConfiguration{Format: "text", Verbosity: logsapi.VerbosityLevel(f.logs.Verbosity)},
		HostnameOverride:   f.node,
		BindAddress:        f.bindAddress,
		HealthzBindAddress: f.health,
		MetricsBindAddress: f.metrics,
		Mode:               v1alpha1.ProxyMode(f.mode),
		DetectLocalMode:    v1alpha1.LocalMode(f.detectLocal),
		DetectLocal:        v1alpha1.DetectLocalConfiguration{BridgeInterface: f.podBridge, InterfaceNamePrefix: f.podInterfacePrefix},
		ClusterCIDR:        f.clusterCIDR,
		OOMScoreAdj:        number(f.oomScoreAdj),
		Conntrack:          f.conntrack.configz(),
	}
	bit := int32(f.masqueradeBit)
	cfg.IPTables = v1alpha1.KubeProxyIPTablesConfiguration{MasqueradeBit: &bit, MasqueradeAll: f.masqueradeAll, LocalhostNodePorts: &f.localhostNodePorts}
	cfg.NFTables = v1alpha1.KubeProxyNFTablesConfiguration{MasqueradeBit: &bit, MasqueradeAll: f.masqueradeAll}
	cfg.IPVS = v1alpha1.KubeProxyIPVSConfiguration{
		Scheduler: f.ipvs.scheduler, StrictARP: f.ipvs.strictARP, TCPTimeout: duration(f.ipvs.tcpTimeout),
		TCPFinTimeout: duration(f.ipvs.tcpFinTimeout), UDPTimeout: duration(f.ipvs.udpTimeout),
	}
	if f.ipvs.excludeCIDRs != "" {
		cfg.IPVS.ExcludeCIDRs = strings.Split(f.ipvs.excludeCIDRs, ",")
	}
	switch f.mode {
	case "nftables":
		cfg.NFTables.SyncPeriod, cfg.NFTables.MinSyncPeriod = duration(f.syncPeriod), duration(f.minSyncPeriod)
	case "ipvs":
		cfg.IPVS.SyncPeriod, cfg.IPVS.MinSyncPeriod = duration(f.ipvs.syncPeriod), duration(f.ipvs.minSyncPeriod)
	default:
		cfg.IPTables.SyncPeriod, cfg.IPTables.MinSyncPeriod = duration(f.syncPeriod), duration(f.minSyncPeriod)
	}
	switch {
	case f.nodePortAddresses != "":
		cfg.NodePortAddresses = strings.Split(f.nodePortAddresses, ",")
	case f.mode == "nftables":
		cfg.NodePortAddresses = []string{"primary"}
	}
	return cfg
}

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

func number(n int) *int32 {
	n32 := int32(n)
	return &n32
}

func (f *conntrackFlags) configz() v1alpha1.KubeProxyConntrackConfiguration {
	established, closeWait := duration(f.tcpEstablished), duration(f.tcpCloseWait)
	return v1alpha1.KubeProxyConntrackConfiguration{
		MaxPerCore: number(f.maxPerCore), Min: number(f.min),
		TCPEstablishedTimeout: &established, TCPCloseWaitTimeout: &closeWait, TCPBeLiberal: f.tcpBeLiberal,
		UDPTimeout: duration(f.udp), UDPStreamTimeout: duration(f.udpStream),
	}
}
