package main

import (
	"strings"
	"testing"
)

// TestKubeletFlagsOfImages: the defaults are good, and what cannot be is refused in upstream's words.
func TestKubeletFlagsOfImages(t *testing.T) {
	for args, want := range map[string]string{
		"": "",
		"--image-gc-high-threshold=100 --image-gc-low-threshold=0 --minimum-image-ttl-duration=0s": "",
		"--image-gc-high-threshold=101":    "invalid configuration: imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive",
		"--image-gc-low-threshold=-1":      "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) -1 must be between 0 and 100, inclusive",
		"--image-gc-low-threshold=85":      "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) 85 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
		"--minimum-image-ttl-duration=-1s": "invalid configuration: imageMinimumGCAge (--minimum-image-ttl-duration) -1s must not be negative",
	} {
		needed := []string{"--client-ca-file=ca.crt", "--tls-cert-file=kubelet.crt", "--tls-private-key-file=kubelet.key", "--node-ip=192.168.56.11"}
		f, err := parseKubeletFlags(append(needed, strings.Fields(args)...))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if _, err := f.config(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("kubelet %s: %q, want %q", args, got, want)
		}
	}
}
