package apiserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// call is what a client asks of one object, and outcome what it is told.
type call struct {
	verb, name string
	value      string
	version    string // of an update: the state it means
}

type outcome struct {
	reason         metav1.StatusReason // "" for success
	value, version string
}

// register is an object as the API promises it to be: at any moment there is
// one state of it, whichever server is asked.
type register struct {
	exists  bool
	value   string
	version int64 // the last one, also when the object is gone
}

// step says whether an outcome is right in a state, and what comes of it.
func step(state, input, output any) (bool, any) {
	s, c, o := state.(register), input.(call), output.(outcome)
	version, _ := strconv.ParseInt(o.version, 10, 64)
	written := register{exists: true, value: c.value, version: version}
	switch {
	case c.verb == "create" && s.exists:
		return o.reason == metav1.StatusReasonAlreadyExists, s
	case c.verb == "create":
		return o.reason == "" && version > s.version, written
	case !s.exists:
		return o.reason == metav1.StatusReasonNotFound, s
	case c.verb == "get":
		return o.reason == "" && o.value == s.value && version == s.version, s
	case c.verb == "update" && c.version != strconv.FormatInt(s.version, 10):
		return o.reason == metav1.StatusReasonConflict, s
	case c.verb == "update":
		return o.reason == "" && version > s.version, written
	default: // delete
		return o.reason == "", register{version: s.version}
	}
}

var registers = porcupine.Model{
	Init: func() any { return register{} },
	Step: step,
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byName := map[string][]porcupine.Operation{}
		for _, op := range history {
			name := op.Input.(call).name
			byName[name] = append(byName[name], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byName {
			parts = append(parts, part)
		}
		return parts
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v ─▶ %+v", input, output) },
}

// TestLinearizable lets clients of two API servers on one etcd create, read,
// list, update and delete the same few objects at once. What each of them saw
// must fit one order of events in which every request happens at one moment
// between its sending and its answer.
func TestLinearizable(t *testing.T) {
	first := startServer(t)
	second := startServer(t, func(c *Config) {
		c.EtcdServers = []string{"unix://" + first.cfg.DataDir + "/etcd.sock"}
		c.AdvertiseAddress = netip.MustParseAddr("192.168.56.12")
	})
	defer second.stop() // before its etcd goes
	names := []string{"a", "b", "c"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	started := time.Now()
	histories := make([][]porcupine.Operation, 12)
	var clients sync.WaitGroup
	for i := range histories {
		api := []*cluster{first, second}[i%2].admin().CoreV1().ConfigMaps("default")
		p := &prober{t: t, api: api, id: i, started: started, names: names, seen: map[string]string{}}
		clients.Go(func() { histories[i] = p.run(ctx) })
	}
	clients.Wait()
	var history []porcupine.Operation
	for _, h := range histories {
		history = append(history, h...)
	}
	t.Logf("%d requests", len(history))
	switch porcupine.CheckOperationsTimeout(registers, history, time.Minute) {
	case porcupine.Illegal:
		t.Error("no order of events explains what the clients saw")
	case porcupine.Unknown:
		t.Error("the check did not end within a minute")
	}
}

// prober sends requests at random and notes what it is told.
type prober struct {
	t       *testing.T
	api     typedcorev1.ConfigMapInterface
	id      int
	started time.Time
	names   []string
	seen    map[string]string // the last version it saw, of each object
	history []porcupine.Operation
}

func (p *prober) run(ctx context.Context) []porcupine.Operation {
	for n := 0; ctx.Err() == nil && !p.t.Failed(); n++ {
		name := p.names[rand.IntN(len(p.names))]
		if rand.IntN(10) == 0 {
			p.list()
			continue
		}
		verb := []string{"create", "get", "get", "update", "update", "delete"}[rand.IntN(6)]
		c := call{verb: verb, name: name, version: p.seen[name]}
		if verb == "create" || verb == "update" && c.version != "" {
			c.value = fmt.Sprintf("%d-%d", p.id, n)
		} else if verb == "update" {
			continue
		}
		sent := time.Since(p.started)
		o := p.send(c)
		p.note(c, o, sent)
	}
	return p.history
}

func (p *prober) note(c call, o outcome, sent time.Duration) {
	if o.version != "" {
		p.seen[c.name] = o.version
	}
	p.history = append(p.history, porcupine.Operation{ClientId: p.id, Input: c, Output: o, Call: int64(sent), Return: int64(time.Since(p.started))})
}

func (p *prober) send(c call) outcome {
	ctx := p.t.Context()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: c.name, ResourceVersion: c.version}, Data: map[string]string{"v": c.value}}
	var got *corev1.ConfigMap
	var err error
	switch c.verb {
	case "create":
		cm.ResourceVersion = ""
		got, err = p.api.Create(ctx, cm, metav1.CreateOptions{})
	case "get":
		got, err = p.api.Get(ctx, c.name, metav1.GetOptions{})
	case "update":
		got, err = p.api.Update(ctx, cm, metav1.UpdateOptions{})
	case "delete":
		err = p.api.Delete(ctx, c.name, metav1.DeleteOptions{})
	}
	switch {
	case err != nil && apierrors.ReasonForError(err) == metav1.StatusReasonUnknown:
		p.t.Errorf("%s %s: %v", c.verb, c.name, err)
		return outcome{}
	case err != nil:
		return outcome{reason: apierrors.ReasonForError(err)}
	case c.verb == "delete":
		return outcome{}
	}
	return outcome{value: got.Data["v"], version: got.ResourceVersion}
}

// list is a get of every object, each at some moment of the list.
func (p *prober) list() {
	sent := time.Since(p.started)
	list, err := p.api.List(p.t.Context(), metav1.ListOptions{})
	if err != nil {
		p.t.Errorf("list: %v", err)
		return
	}
	found := map[string]outcome{}
	for _, cm := range list.Items {
		found[cm.Name] = outcome{value: cm.Data["v"], version: cm.ResourceVersion}
	}
	for _, name := range p.names {
		o, ok := found[name]
		if !ok {
			o = outcome{reason: metav1.StatusReasonNotFound}
		}
		p.note(call{verb: "get", name: name}, o, sent)
	}
}

// The model itself refuses what must not be.
func TestRegisterModel(t *testing.T) {
	op := func(c call, o outcome, sent, told int64) porcupine.Operation {
		return porcupine.Operation{Input: c, Output: o, Call: sent, Return: told}
	}
	created := op(call{verb: "create", name: "a", value: "x"}, outcome{value: "x", version: "5"}, 0, 10)
	for name, later := range map[string]porcupine.Operation{
		"a lost write":   op(call{verb: "get", name: "a"}, outcome{reason: metav1.StatusReasonNotFound}, 20, 30),
		"a second birth": op(call{verb: "create", name: "a", value: "y"}, outcome{value: "y", version: "6"}, 20, 30),
		"an old version": op(call{verb: "update", name: "a", value: "y", version: "4"}, outcome{value: "y", version: "6"}, 20, 30),
	} {
		if porcupine.CheckOperations(registers, []porcupine.Operation{created, later}) {
			t.Errorf("the model allows %s", name)
		}
	}
}
