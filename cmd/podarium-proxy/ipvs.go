package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/ipvs"
)

// ipvsFlags are the proxy's flags that only mean something with
// --proxy-mode=ipvs.
type ipvsFlags struct {
	scheduler, excludeCIDRs               string
	strictARP                             bool
	syncPeriod, minSyncPeriod             time.Duration
	tcpTimeout, tcpFinTimeout, udpTimeout time.Duration
}

func (f *ipvsFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.scheduler, "ipvs-scheduler", "rr", "`name` of what chooses an endpoint: rr, wrr, lc, sh, mh, …")
	flags.StringVar(&f.excludeCIDRs, "ipvs-exclude-cidrs", "", "`ranges` of virtual servers that are somebody else's")
	flags.BoolVar(&f.strictARP, "ipvs-strict-arp", false, "answer ARP for an address only on the interface that has it")
	flags.DurationVar(&f.syncPeriod, "ipvs-sync-period", 30*time.Second, "how often to look whether all is still there, and what has drained")
	flags.DurationVar(&f.minSyncPeriod, "ipvs-min-sync-period", 0, "how long to wait at least between two syncs; 0: changes are in force at once")
	flags.DurationVar(&f.tcpTimeout, "ipvs-tcp-timeout", 0, "how long an idle TCP connection is known; 0: as the kernel has it")
	flags.DurationVar(&f.tcpFinTimeout, "ipvs-tcpfin-timeout", 0, "the same after a FIN")
	flags.DurationVar(&f.udpTimeout, "ipvs-udp-timeout", 0, "the same for UDP")
}

func (f *ipvsFlags) validate() error {
	var errs []error
	if f.scheduler == "" {
		errs = append(errs, errors.New("--ipvs-scheduler: name one, such as rr"))
	}
	if f.syncPeriod <= 0 {
		errs = append(errs, fmt.Errorf("--ipvs-sync-period %v: must be more than 0", f.syncPeriod))
	}
	if f.minSyncPeriod < 0 || f.minSyncPeriod > f.syncPeriod {
		errs = append(errs, fmt.Errorf("--ipvs-min-sync-period %v: must be 0 or more, and not more than --ipvs-sync-period %v", f.minSyncPeriod, f.syncPeriod))
	}
	for name, timeout := range map[string]time.Duration{"tcp": f.tcpTimeout, "tcpfin": f.tcpFinTimeout, "udp": f.udpTimeout} {
		if timeout < 0 || timeout%time.Second != 0 {
			errs = append(errs, fmt.Errorf("--ipvs-%s-timeout %v: must be whole seconds, 0 or more", name, timeout))
		}
	}
	_, err := parsePrefixes("--ipvs-exclude-cidrs", f.excludeCIDRs)
	return errors.Join(append(errs, err)...)
}

// backend is that of a configuration, completed by these flags.
func (f *ipvsFlags) backend(cfg ipvs.Config) (proxy.Backend, error) {
	excluded, err := parsePrefixes("--ipvs-exclude-cidrs", f.excludeCIDRs)
	if err != nil {
		return nil, err
	}
	cfg.Scheduler, cfg.ExcludeCIDRs, cfg.StrictARP = f.scheduler, excluded, f.strictARP
	cfg.TCPTimeout, cfg.TCPFinTimeout, cfg.UDPTimeout = f.tcpTimeout, f.tcpFinTimeout, f.udpTimeout
	return ipvs.New(cfg)
}
