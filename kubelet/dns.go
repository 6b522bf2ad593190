package kubelet

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// resolvConf is the content of /etc/resolv.conf.
type resolvConf struct {
	servers, searches, options []string
}

const (
	maxServers  = 3    // glibc reads no more
	maxSearches = 32   // Kubernetes' limit, with
	maxSearch   = 2048 // at most so many characters in total
)

// clusterDNS is what the kubelet's flags say about names.
type clusterDNS struct {
	servers []string // --cluster-dns: 10.96.0.10
	domain  string   // --cluster-domain: cluster.local
}

// podResolvConf works out a pod's resolv.conf from its dnsPolicy, its dnsConfig and the node's own.
//
// ClusterFirst in namespace shop: nameserver 10.96.0.10, search shop.svc.cluster.local
// svc.cluster.local cluster.local, ndots:5. So "web" is tried as web.shop.svc.cluster.local first.
func podResolvConf(pod *corev1.Pod, cluster clusterDNS, node resolvConf) resolvConf {
	var conf resolvConf
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault // a pod in the node's network uses the node's resolver, too
	}
	switch {
	case policy == corev1.DNSNone:
	case policy == corev1.DNSDefault || len(cluster.servers) == 0:
		conf = resolvConf{slices.Clone(node.servers), slices.Clone(node.searches), slices.Clone(node.options)}
	default:
		conf.servers = slices.Clone(cluster.servers)
		if d := cluster.domain; d != "" {
			conf.searches = []string{pod.Namespace + ".svc." + d, "svc." + d, d}
		}
		conf.searches = appendNew(conf.searches, node.searches...)
		conf.options = []string{"ndots:5"}
	}
	if custom := pod.Spec.DNSConfig; custom != nil {
		conf.servers = appendNew(conf.servers, custom.Nameservers...)
		conf.searches = appendNew(conf.searches, custom.Searches...)
		conf.options = mergeOptions(conf.options, custom.Options)
	}
	return conf
}

func appendNew(list []string, more ...string) []string {
	for _, item := range more {
		if !slices.Contains(list, item) {
			list = append(list, item)
		}
	}
	return list
}

// mergeOptions lets the pod's options replace those of the same name.
func mergeOptions(have []string, custom []corev1.PodDNSConfigOption) []string {
	for _, option := range custom {
		have = slices.DeleteFunc(have, func(o string) bool {
			name, _, _ := strings.Cut(o, ":")
			return name == option.Name
		})
		text := option.Name
		if option.Value != nil && *option.Value != "" {
			text += ":" + *option.Value
		}
		have = append(have, text)
	}
	return have
}

// limited leaves out what is too much, and says so.
func (c resolvConf) limited() (resolvConf, []string) {
	var complaints []string
	if len(c.servers) > maxServers {
		c.servers = c.servers[:maxServers]
		complaints = append(complaints, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+
			strings.Join(c.servers, " "))
	}
	all := len(c.searches)
	c.searches = c.searches[:min(all, maxSearches)]
	for len(strings.Join(c.searches, " ")) > maxSearch {
		c.searches = c.searches[:len(c.searches)-1]
	}
	if len(c.searches) < all {
		complaints = append(complaints, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+
			strings.Join(c.searches, " "))
	}
	return c, complaints
}

// String writes the file as upstream does: search, nameserver lines, options.
func (c resolvConf) String() string {
	var b strings.Builder
	if len(c.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.searches, " "))
	}
	for _, server := range c.servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(c.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.options, " "))
	}
	return b.String()
}

// readResolvConf reads the node's file; a node without one has no resolver.
func readResolvConf(path string) resolvConf {
	var conf resolvConf
	file, err := os.Open(path)
	if err != nil {
		return conf
	}
	defer file.Close()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			conf.servers = append(conf.servers, fields[1])
		case "search":
			conf.searches = nil // the last line of its kind counts
			for _, domain := range fields[1:] {
				if domain != "." {
					conf.searches = append(conf.searches, strings.TrimSuffix(domain, "."))
				}
			}
		case "options":
			conf.options = append(conf.options, fields[1:]...)
		}
	}
	return conf
}

// podHostname is a pod's host name, and its full name if it has a subdomain:
// db-0 and db-0.db.shop.svc.cluster.local.
func podHostname(pod *corev1.Pod, domain string) (host, fqdn string) {
	host = pod.Name
	if override := pod.Spec.HostnameOverride; override != nil {
		return *override, ""
	}
	if pod.Spec.Hostname != "" {
		host = pod.Spec.Hostname
	}
	if len(host) > 63 {
		host = strings.TrimRight(host[:63], "-.")
	}
	if pod.Spec.Subdomain != "" {
		fqdn = fmt.Sprintf("%s.%s.%s.svc.%s", host, pod.Spec.Subdomain, pod.Namespace, domain)
	}
	return host, fqdn
}

// machineName is what the command hostname prints in a pod: the pod's host name, its full name when it asks for
// that, and the node's in the node's network.
func (k *Kubelet) machineName(pod *corev1.Pod) string {
	host, fqdn := podHostname(pod, k.cfg.ClusterDomain)
	if pod.Spec.HostNetwork {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	if full := pod.Spec.SetHostnameAsFQDN; full != nil && *full && fqdn != "" {
		return fqdn
	}
	return host
}

// hostsFile is a pod's /etc/hosts.
func hostsFile(ips []string, host, fqdn string, aliases []corev1.HostAlias) string {
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file.\n" +
		"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	for _, ip := range ips {
		if fqdn != "" {
			fmt.Fprintf(&b, "%s\t%s\t%s\n", ip, fqdn, host)
		} else {
			fmt.Fprintf(&b, "%s\t%s\n", ip, host)
		}
	}
	return b.String() + aliasLines(aliases)
}

func aliasLines(aliases []corev1.HostAlias) string {
	if len(aliases) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, alias := range aliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.String()
}
