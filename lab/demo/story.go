package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/podarium/podarium/lab/world"
)

// Limit bounds the whole demo.
const Limit = time.Minute

// ruleDelay bounds how long a change may take from the API to the kernel.
const ruleDelay = 5 * time.Second

// Run tells the story and cleans up after it. The error names the step that
// was not as told.
func Run(ctx context.Context, labName string, out io.Writer) error {
	cfg, err := world.Load(labName)
	if err != nil {
		return err
	}
	if cfg.ProxyMode != "iptables" {
		return fmt.Errorf("the story is told with the rules of iptables mode, and lab %s uses %s: start one with `podarium up --name story`", labName, cfg.ProxyMode)
	}
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	t := &tale{shell: shell{cfg: cfg, out: out, began: time.Now()}}
	defer t.cleanUp(context.WithoutCancel(ctx))
	for _, step := range []func(context.Context) error{
		t.podsOnDifferentNodes,
		t.serviceGetsItsIP,
		t.nameResolves,
		t.requestArrives,
		t.rulesOnTheClientsNode,
		t.conntrackRemembers,
		t.loadIsSpread,
		t.scaleChangesProbabilities,
		t.killedPodIsMissedByNobody,
		t.nodeWithoutEndpoint,
		t.simpleService,
		t.deletedWithoutTrace,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("step %d is not as told: %w", t.step, err)
		}
	}
	fmt.Fprintf(out, "\nThat was the way of a request: name → ClusterIP → DNAT → pod, and back (%.1f s).\n", time.Since(t.began).Seconds())
	fmt.Fprintf(out, "Go on with: kubectl get pods -A -o wide; podarium node exec node-2 -- iptables-save -t nat\n")
	return nil
}

// tale is what the steps hand on to each other.
type tale struct {
	shell
	clusterIP  string
	clientNode string // where tmp-shell runs
	clientIP   string
	pods       map[string]placement // nginx pods by name
}

type placement struct{ ip, node string }

// client is the pod which asks, the way the text calls it.
const client = "tmp-shell"

func (t *tale) podsOnDifferentNodes(ctx context.Context) error {
	t.heading("Three pods, on three nodes")
	if err := t.apply(ctx, "nginx.yaml"); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "rollout", "status", "deployment/nginx", "--timeout=30s"); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "get", "pods", "-l", "app=nginx", "-o", "wide"); err != nil {
		return err
	}
	if err := t.readPods(ctx); err != nil {
		return err
	}
	nodes := map[string]bool{}
	for _, p := range t.pods {
		nodes[p.node] = true
	}
	if len(nodes) != min(3, t.cfg.Nodes) {
		return fmt.Errorf("three pods run on %d nodes: %v", len(nodes), t.pods)
	}
	t.say("Deployment → ReplicaSet → Pods; the scheduler spread them; each has an address of its node's range.")
	return nil
}

// readPods notes where the ready pods of nginx are.
func (t *tale) readPods(ctx context.Context) error {
	const columns = `jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {.spec.nodeName} {.metadata.deletionTimestamp}{"\n"}{end}`
	output, err := t.quietKubectl(ctx, "get", "pods", "-l", "app=nginx", "-o", columns)
	if err != nil {
		return err
	}
	t.pods = map[string]placement{}
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) == 3 { // a fourth would be: it is being deleted
			t.pods[fields[0]] = placement{fields[1], fields[2]}
		}
	}
	return nil
}

func (t *tale) serviceGetsItsIP(ctx context.Context) error {
	t.heading("The Service gets its IP")
	if _, err := t.kubectl(ctx, "get", "service", "nginx"); err != nil {
		return err
	}
	ip, err := t.quietKubectl(ctx, "get", "service", "nginx", "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil || !t.cfg.ServiceClusterIPRange.Contains(addr) {
		return fmt.Errorf("ClusterIP %q is not in %s", ip, t.cfg.ServiceClusterIPRange)
	}
	t.clusterIP = ip
	t.say("%s is from %s. No interface has it: it is only a rule, on every node.", ip, t.cfg.ServiceClusterIPRange)
	return nil
}

func (t *tale) nameResolves(ctx context.Context) error {
	t.heading("From a pod, the name resolves")
	if err := t.apply(ctx, "tmp-shell.yaml"); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "wait", "--for=condition=Ready", "pod/"+client, "--timeout=30s"); err != nil {
		return err
	}
	placed, err := t.quietKubectl(ctx, "get", "pod", client, "-o", "jsonpath={.status.podIP} {.spec.nodeName}")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(placed, &t.clientIP, &t.clientNode); err != nil {
		return fmt.Errorf("read where %s is from %q: %w", client, placed, err)
	}
	resolv, err := t.kubectl(ctx, "exec", client, "--", "cat", "/etc/resolv.conf")
	if err != nil {
		return err
	}
	if !strings.Contains(resolv, "search default.svc.cluster.local svc.cluster.local cluster.local") {
		return errors.New("the search path is not that of namespace default")
	}
	answer, err := t.kubectl(ctx, "exec", client, "--", "nslookup", "nginx.default.svc.cluster.local")
	if err != nil {
		return err
	}
	if !strings.Contains(answer, t.clusterIP) {
		return fmt.Errorf("nginx does not resolve to %s", t.clusterIP)
	}
	t.say("The search path makes nginx into nginx.default.svc.cluster.local; %s is the Service kube-dns itself.", t.cfg.Cluster().DNSIP())
	return nil
}

func (t *tale) requestArrives(ctx context.Context) error {
	t.heading("The request from %s arrives", client)
	answer, err := t.kubectl(ctx, "exec", client, "--", "wget", "-qO-", "http://nginx/hostname")
	if err != nil {
		return err
	}
	pod := strings.TrimSpace(answer)
	place, ok := t.pods[pod]
	if !ok {
		return fmt.Errorf("%q answered, which is no pod of nginx", pod)
	}
	from, err := t.kubectl(ctx, "exec", client, "--", "wget", "-qO-", "http://nginx/clientip")
	if err != nil {
		return err
	}
	if strings.TrimSpace(from) != t.clientIP {
		return fmt.Errorf("the server saw %q, not the client's %s", from, t.clientIP)
	}
	t.say("%s (%s on %s) asked, %s (%s on %s) answered; it saw the client's own address.", client, t.clientIP, t.clientNode, pod, place.ip, place.node)
	return nil
}

// nginxChain is the hash of "default/nginx:" + "tcp", as on any cluster.
const nginxChain = "KUBE-SVC-2CMXP7HKUVJN7L6M"

func (t *tale) rulesOnTheClientsNode(ctx context.Context) error {
	t.heading("What turned %s into a pod: the rules on the client's node", t.clusterIP)
	rules, err := t.waitRules(ctx, t.clientNode, 3)
	if err != nil {
		return err
	}
	lines := append([]string{rules.portal}, rules.balance...)
	for _, sep := range rules.endpoints {
		lines = append(lines, rules.dnat[sep])
	}
	t.show("podarium node exec "+t.clientNode+" -- iptables-save -t nat   # the lines of nginx", strings.Join(lines, "\n"))
	if rules.chain != nginxChain {
		return fmt.Errorf("the Service's chain is %s, not %s", rules.chain, nginxChain)
	}
	t.say("KUBE-SERVICES → %s → one of %d KUBE-SEP chains → DNAT.", rules.chain, len(rules.endpoints))
	t.say("The first rule takes 1 of 3, the second 1 of the 2 left, the last the rest: a third each.")
	return nil
}

// waitRules reads a node's rules until they have as many endpoints as told,
// with the cascade that belongs to it.
func (t *tale) waitRules(ctx context.Context, node string, endpoints int) (serviceRules, error) {
	var rules serviceRules
	err := eventually(ctx, ruleDelay, func() error {
		saved, err := t.node(node, "iptables-save", "-t", "nat")
		if err != nil {
			return err
		}
		if rules, err = readRules(saved, t.clusterIP); err != nil {
			return err
		}
		if len(rules.endpoints) != endpoints || !sameCascade(rules.probabilities(), endpoints) {
			return fmt.Errorf("%s has %d endpoints with probabilities %v", node, len(rules.endpoints), rules.probabilities())
		}
		return nil
	})
	return rules, err
}

func (t *tale) conntrackRemembers(ctx context.Context) error {
	t.heading("The kernel remembers the connection, for the way back")
	if _, err := t.quietKubectl(ctx, "exec", client, "--", "wget", "-qO-", "http://"+t.clusterIP+"/info"); err != nil {
		return err
	}
	list, err := t.node(t.clientNode, "conntrack", "-L", "-p", "tcp", "--orig-dst", t.clusterIP)
	if err != nil {
		return err
	}
	entry, _, _ := strings.Cut(list, "\n")
	t.show("podarium node exec "+t.clientNode+" -- conntrack -L -p tcp --orig-dst "+t.clusterIP, entry)
	sources := fieldsOf(entry, "src=")
	targets := fieldsOf(entry, "dst=")
	if len(sources) != 2 || len(targets) != 2 || sources[0] != t.clientIP || targets[0] != t.clusterIP || targets[1] != t.clientIP {
		return fmt.Errorf("entry has sources %v and destinations %v", sources, targets)
	}
	t.say("Out: %s → %s. Back: %s → %s, whose source the kernel turns into %s again.", sources[0], targets[0], sources[1], targets[1], t.clusterIP)
	return nil
}

func fieldsOf(entry, prefix string) []string {
	var list []string
	for field := range strings.FieldsSeq(entry) {
		if value, ok := strings.CutPrefix(field, prefix); ok {
			list = append(list, value)
		}
	}
	return list
}

// requests of the spreading step, and how far from its third a pod may be:
// six standard deviations of a binomial distribution, 6·√(300·⅓·⅔).
const (
	requests  = 300
	tolerance = 49
)

func (t *tale) loadIsSpread(ctx context.Context) error {
	t.heading("%d requests, counted per pod", requests)
	script := fmt.Sprintf("for i in $(seq %d); do wget -qO- http://%s/hostname; done | sort | uniq -c", requests, t.clusterIP)
	counts, err := t.kubectl(ctx, "exec", client, "--", "sh", "-c", script)
	if err != nil {
		return err
	}
	seen := 0
	for line := range strings.Lines(counts) {
		var n int
		var pod string
		if _, err := fmt.Sscan(line, &n, &pod); err != nil {
			return fmt.Errorf("read count %q: %w", line, err)
		}
		if _, ok := t.pods[pod]; !ok {
			return fmt.Errorf("%s answered, which is no pod of nginx", pod)
		}
		if n < requests/3-tolerance || n > requests/3+tolerance {
			return fmt.Errorf("%s got %d of %d requests", pod, n, requests)
		}
		seen += n
	}
	if seen != requests {
		return fmt.Errorf("%d of %d requests were answered", seen, requests)
	}
	t.say("A third each, by chance: the kernel throws dice for each connection.")
	return nil
}

func (t *tale) scaleChangesProbabilities(ctx context.Context) error {
	t.heading("Two pods more, and the dice change")
	if _, err := t.kubectl(ctx, "scale", "deployment/nginx", "--replicas=5"); err != nil {
		return err
	}
	if _, err := t.quietKubectl(ctx, "rollout", "status", "deployment/nginx", "--timeout=30s"); err != nil {
		return err
	}
	rules, err := t.waitRules(ctx, t.clientNode, 5)
	if err != nil {
		return err
	}
	t.show("podarium node exec "+t.clientNode+" -- iptables-save -t nat | grep "+rules.chain, strings.Join(rules.balance, "\n"))
	t.say("1/5, 1/4, 1/3, 1/2 and the rest: %s.", strings.Join(rules.probabilities(), ", "))
	return t.readPods(ctx)
}

func (t *tale) killedPodIsMissedByNobody(ctx context.Context) error {
	t.heading("A pod is killed")
	var victim string
	for name := range t.pods {
		victim = max(victim, name)
	}
	gone := t.pods[victim].ip + ":80"
	began := time.Now()
	if _, err := t.kubectl(ctx, "delete", "pod", victim, "--wait=false"); err != nil {
		return err
	}
	err := eventually(ctx, ruleDelay, func() error {
		saved, err := t.node(t.clientNode, "iptables-save", "-t", "nat")
		if err != nil {
			return err
		}
		rules, err := readRules(saved, t.clusterIP)
		if err == nil && slices.Contains(rules.destinations(), gone) {
			err = fmt.Errorf("%s is still in the rules of %s", gone, t.clientNode)
		}
		return err
	})
	if err != nil {
		return err
	}
	t.say("%s was out of the rules of %s %d ms later.", gone, t.clientNode, time.Since(began).Milliseconds())
	const tries = 100
	script := fmt.Sprintf("ok=0; for i in $(seq %d); do wget -qO- http://%s/hostname >/dev/null && ok=$((ok+1)); done; echo $ok of %d answered", tries, t.clusterIP, tries)
	answered, err := t.kubectl(ctx, "exec", client, "--", "sh", "-c", script)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answered, fmt.Sprintf("%d of", tries)) {
		return fmt.Errorf("requests failed after the endpoint was gone: %s", answered)
	}
	t.say("Meanwhile the ReplicaSet has made a new one.")
	return nil
}

func (t *tale) nodeWithoutEndpoint(ctx context.Context) error {
	t.heading("One pod left: the nodes without it work too")
	if _, err := t.kubectl(ctx, "scale", "deployment/nginx", "--replicas=1"); err != nil {
		return err
	}
	var only placement
	err := eventually(ctx, 2*ruleDelay, func() error {
		if err := t.readPods(ctx); err != nil {
			return err
		}
		if len(t.pods) != 1 {
			return fmt.Errorf("%d pods are left", len(t.pods))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, only = range t.pods {
	}
	for n := 1; n <= t.cfg.Nodes; n++ {
		node := world.NodeName(n)
		rules, err := t.waitRules(ctx, node, 1)
		if err != nil {
			return err
		}
		answer, err := t.node(node, "curl", "-s", "--max-time", "5", "http://"+t.clusterIP+"/hostname")
		if err != nil {
			return err
		}
		if _, ok := t.pods[strings.TrimSpace(answer)]; !ok {
			return fmt.Errorf("on %s, %q answered", node, answer)
		}
		t.say("%s: %s → %s (on %s): %s", node, t.clusterIP, rules.destinations()[0], only.node, strings.TrimSpace(answer))
	}
	t.say("Every node has the rules of every Service, whether it has an endpoint or not.")
	return nil
}

func (t *tale) simpleService(ctx context.Context) error {
	t.heading("The same with a ReplicationController: simpleservice")
	if err := t.apply(ctx, "simpleservice.yaml"); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "wait", "--for=condition=Ready", "pod", "-l", "app=sise", "--timeout=30s"); err != nil {
		return err
	}
	ip, err := t.quietKubectl(ctx, "get", "service", "simpleservice", "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		return err
	}
	if err := t.waitSimpleRules(ctx, ip, 1); err != nil {
		return err
	}
	info, err := t.kubectl(ctx, "exec", client, "--", "wget", "-qO-", "http://simpleservice/info")
	if err != nil {
		return err
	}
	if want := fmt.Sprintf(`{"host": "simpleservice", "version": "0.5.0", "from": "%s"}`, t.clientIP); strings.TrimSpace(info) != want {
		return fmt.Errorf("/info says %s, not %s", info, want)
	}
	if _, err := t.kubectl(ctx, "scale", "--replicas=2", "rc/rcsise"); err != nil {
		return err
	}
	if err := t.waitSimpleRules(ctx, ip, 2); err != nil {
		return err
	}
	saved, err := t.node(t.clientNode, "sh", "-c", "iptables-save | grep simpleservice")
	if err != nil {
		return err
	}
	t.show("podarium node exec "+t.clientNode+" -- iptables-save | grep simpleservice", saved)
	t.say("Older texts show no rule with \"! -s\": kube-proxy marks what does not come from a pod for masquerade today.")
	return nil
}

func (t *tale) waitSimpleRules(ctx context.Context, ip string, endpoints int) error {
	return eventually(ctx, 2*ruleDelay, func() error {
		saved, err := t.node(t.clientNode, "iptables-save", "-t", "nat")
		if err != nil {
			return err
		}
		rules, err := readRules(saved, ip)
		if err == nil && len(rules.endpoints) != endpoints {
			err = fmt.Errorf("simpleservice has %d endpoints in the rules", len(rules.endpoints))
		}
		return err
	})
}

func (t *tale) deletedWithoutTrace(ctx context.Context) error {
	t.heading("Deleted without a trace")
	for _, args := range [][]string{{"delete", "svc", "simpleservice"}, {"delete", "rc", "rcsise"}, {"delete", "deployment,service", "nginx"}} {
		if _, err := t.kubectl(ctx, append(args, "--wait=false")...); err != nil {
			return err
		}
	}
	return eventually(ctx, ruleDelay, func() error {
		for n := 1; n <= t.cfg.Nodes; n++ {
			saved, err := t.node(world.NodeName(n), "iptables-save")
			if err != nil {
				return err
			}
			for _, name := range []string{"default/nginx", "default/simpleservice"} {
				if strings.Contains(saved, name) {
					return fmt.Errorf("%s still has rules of %s", world.NodeName(n), name)
				}
			}
		}
		return nil
	})
}

// cleanUp removes what an interrupted story has left.
func (t *tale) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := t.quietKubectl(ctx, "delete", "--ignore-not-found", "--wait=false",
		"deployment/nginx", "service/nginx", "service/simpleservice", "rc/rcsise", "pod/"+client)
	if err != nil {
		t.say("not all was removed: %v", err)
	}
}
