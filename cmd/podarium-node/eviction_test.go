package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEvictionFlags: the defaults, what replaces them and what adds, and what is refused.
func TestEvictionFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                     "imagefs.available imagefs.inodesFree memory.available nodefs.available nodefs.inodesFree 5m0s 0s",
		"--eviction-hard=memory.available<1Gi": "memory.available 5m0s 0s",
		"--eviction-hard=":                     "5m0s 0s",
		"--eviction-hard=nodefs.available<5% --eviction-hard=pid.available<9,":                                                                          "nodefs.available pid.available 5m0s 0s",
		"--eviction-hard=nodefs.available<0% --eviction-pressure-transition-period=0":                                                                   "0s 0s",
		"--eviction-hard=  --eviction-soft=memory.available<2Gi --eviction-soft-grace-period=memory.available=1m30s --eviction-max-pod-grace-period=-1": "memory.available 5m0s -1s",
		"--eviction-hard=memory.available":              `invalid value "memory.available" for flag --eviction-hard: malformed pair, expect string<string; flags are told by --help`,
		"--eviction-minimum-reclaim=memory.available<1": `invalid value "memory.available<1" for flag --eviction-minimum-reclaim: malformed pair, expect string=string; flags are told by --help`,
		"--eviction-hard=memory<1":                      "--eviction-hard: unsupported eviction signal memory",
		"--eviction-soft=memory.available<1":            "--eviction-soft: grace period must be specified for the soft eviction threshold memory.available",
		"--eviction-pressure-transition-period=-1s":     "--eviction-pressure-transition-period -1s is less than 0",
	} {
		needed := []string{"--client-ca-file=ca.crt", "--tls-cert-file=kubelet.crt", "--tls-private-key-file=kubelet.key", "--node-ip=192.168.56.11"}
		if got := policyOf(append(needed, strings.Fields(args)...)); got != want {
			t.Errorf("kubelet %s:\n%s, want\n%s", args, got, want)
		}
	}
}

func policyOf(args []string) string {
	f, err := parseKubeletFlags(args)
	if err != nil {
		return err.Error()
	}
	cfg, err := f.config()
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, threshold := range cfg.Eviction.Thresholds {
		fmt.Fprintf(&text, "%s ", threshold.Signal)
	}
	return fmt.Sprint(text.String(), cfg.Eviction.Transition, " ", cfg.Eviction.MaxPodGrace.Round(time.Second))
}
