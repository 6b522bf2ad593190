package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// conntrackFlags are how much the kernel remembers of connections, and for how
// long; 0 leaves a setting as it is.
type conntrackFlags struct {
	maxPerCore, min              int
	tcpEstablished, tcpCloseWait time.Duration
	udp, udpStream               time.Duration
	tcpBeLiberal                 bool
}

func (f *conntrackFlags) define(flags *flag.FlagSet) {
	flags.IntVar(&f.maxPerCore, "conntrack-max-per-core", 32768, "how many connections the kernel may remember, for each CPU; 0: as it is, whatever --conntrack-min says")
	flags.IntVar(&f.min, "conntrack-min", 131072, "how many at least")
	flags.DurationVar(&f.tcpEstablished, "conntrack-tcp-timeout-established", 24*time.Hour, "how long an idle TCP connection is remembered; 0: as it is")
	flags.DurationVar(&f.tcpCloseWait, "conntrack-tcp-timeout-close-wait", time.Hour, "the same for one in CLOSE_WAIT")
	flags.DurationVar(&f.udp, "conntrack-udp-timeout", 0, "the same for UDP without an answer")
	flags.DurationVar(&f.udpStream, "conntrack-udp-timeout-stream", 0, "the same for UDP with answers")
	flags.BoolVar(&f.tcpBeLiberal, "conntrack-tcp-be-liberal", false, "TCP packets outside the window are not invalid")
}

func (f *conntrackFlags) validate() error {
	var errs []error
	if f.maxPerCore < 0 || f.min < 0 {
		errs = append(errs, errors.New("--conntrack-max-per-core, --conntrack-min: must be 0 or more"))
	}
	for name, timeout := range map[string]time.Duration{
		"tcp-timeout-established": f.tcpEstablished, "tcp-timeout-close-wait": f.tcpCloseWait,
		"udp-timeout": f.udp, "udp-timeout-stream": f.udpStream,
	} {
		if timeout < 0 {
			errs = append(errs, fmt.Errorf("--conntrack-%s %v: must be 0 or more", name, timeout))
		}
	}
	return errors.Join(errs...)
}

// max is how many connections are to be remembered; 0: as it is.
func (f *conntrackFlags) max(cores int) int {
	if f.maxPerCore == 0 {
		return 0
	}
	return max(f.maxPerCore*cores, f.min)
}

// apply sets what differs. What this node may not set is told: the number of
// connections is the machine's, and a lab's node, which is a network namespace,
// has only the timeouts for itself.
func (f *conntrackFlags) apply() {
	f.setMax()
	for _, setting := range []struct {
		name    string
		timeout time.Duration
	}{
		{"nf_conntrack_tcp_timeout_established", f.tcpEstablished},
		{"nf_conntrack_tcp_timeout_close_wait", f.tcpCloseWait},
		{"nf_conntrack_udp_timeout", f.udp},
		{"nf_conntrack_udp_timeout_stream", f.udpStream},
	} {
		if setting.timeout > 0 {
			set("/proc/sys/net/netfilter/"+setting.name, int(setting.timeout.Seconds()))
		}
	}
	if f.tcpBeLiberal {
		set("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", 1)
	}
}

// setMax also lets the hash table grow, so that its lists stay short.
func (f *conntrackFlags) setMax() {
	most := f.max(runtime.NumCPU())
	if most == 0 || !set("/proc/sys/net/netfilter/nf_conntrack_max", most) {
		return
	}
	const buckets = "/sys/module/nf_conntrack/parameters/hashsize"
	if now, err := read(buckets); err == nil && now < most/4 {
		set(buckets, most/4)
	}
}

// set writes a number where the kernel has another one, and tells whether it is
// there now.
func set(path string, number int) bool {
	now, err := read(path)
	if err == nil && now == number {
		return true
	}
	if err == nil {
		err = os.WriteFile(path, []byte(strconv.Itoa(number)), 0o644)
	}
	if err != nil {
		slog.Info("Kernel setting stays as it is", "path", path, "wanted", number, "now", now, "err", err)
		return false
	}
	slog.Info("Set kernel setting", "path", path, "before", now, "now", number)
	return true
}

func read(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// adjustOOMScore makes the kernel end others before us, when it has no memory left
// and lets us say so.
func adjustOOMScore(score int) {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0o644); err != nil {
		slog.Debug("OOM score not adjusted", "score", score, "err", err)
	}
}
