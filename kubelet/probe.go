package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/kubelet/runtime"
)

// startProbes begins to probe a container which has just started or was found running. Without a
// startup probe it counts as started, without a readiness probe as ready.
func (w *worker) startProbes(pod *corev1.Pod, c *corev1.Container, have *container) {
	ctx, cancel := context.WithCancel(w.k.ctx)
	w.mu.Lock()
	if !have.running || have.probes != nil {
		w.mu.Unlock()
		cancel()
		return
	}
	have.probes = cancel
	healing, endHealing := context.WithCancel(ctx)
	have.healing = endHealing
	have.started = have.started || c.StartupProbe == nil
	have.ready = have.ready || (c.ReadinessProbe == nil && have.started)
	started := have.started
	w.mu.Unlock()
	w.publish()
	p := prober{worker: w, pod: pod, container: c, have: have, id: have.record.ID}
	if !started {
		go p.startup(ctx, healing)
		return
	}
	p.afterStartup(ctx, healing)
}

// prober asks one container how it is.
type prober struct {
	worker    *worker
	pod       *corev1.Pod
	container *corev1.Container
	have      *container
	id        string
}

// startup probes until the container has started, then begins with the others. Healing ends when the container
// is told to end; whether it is ready is asked for as long as it runs, since its last words may be to say no.
func (p prober) startup(ctx, healing context.Context) {
	p.run(healing, "Startup", p.container.StartupProbe, func(ok bool, _ string) bool {
		if !ok {
			go p.fail("failed startup probe", p.container.StartupProbe)
			return false
		}
		p.worker.mu.Lock()
		p.have.started = true
		p.have.ready = p.container.ReadinessProbe == nil
		p.worker.mu.Unlock()
		p.worker.publish()
		p.worker.wakeUp() // a sidecar which has started lets the next init container begin
		p.afterStartup(ctx, healing)
		return false
	})
}

func (p prober) afterStartup(ctx, healing context.Context) {
	if probe := p.container.ReadinessProbe; probe != nil {
		go p.run(ctx, "Readiness", probe, func(ok bool, _ string) bool {
			p.worker.mu.Lock()
			p.have.ready = ok
			p.worker.mu.Unlock()
			p.worker.publish()
			return true
		})
	}
	if probe := p.container.LivenessProbe; probe != nil {
		go p.run(healing, "Liveness", probe, func(ok bool, _ string) bool {
			if ok {
				return true
			}
			go p.fail("failed liveness probe", probe)
			return false
		})
	}
}

// verdict is what the event says of the end of a container that a probe condemned, which is not left to how it
// ends: it comes back though it ends well, but for the policy Never. A pod ends with the last one of those.
func (p prober) verdict(why string) string {
	p.worker.mu.Lock()
	defer p.worker.mu.Unlock()
	policy := p.pod.Spec.RestartPolicy
	if own := p.container.RestartPolicy; own != nil {
		policy = corev1.RestartPolicy(*own)
	}
	if policy != corev1.RestartPolicyNever {
		p.have.again = true
		return fmt.Sprintf("Container %s %s, will be restarted", p.container.Name, why)
	}
	for _, c := range p.pod.Spec.Containers {
		if other := p.worker.containers[c.Name]; other != p.have && other != nil && other.running {
			return fmt.Sprintf("Container %s %s", p.container.Name, why)
		}
	}
	return ""
}

// fail kills the container; its restart policy brings it back.
func (p prober) fail(why string, probe *corev1.Probe) {
	grace := defaultGrace(p.pod)
	if probe.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
	}
	p.worker.kill(p.pod, p.container, p.have, grace, p.verdict(why))
}

// firstTries is the pause between the first tries of a probe which shall turn from not yet to yes. A
// server needs some milliseconds to listen; without them a pod would wait for a whole period.
const firstTries = 25 * time.Millisecond

// run probes in the probe's rhythm. verdict is told when the threshold of equal results is reached and
// the verdict is another one than before; it returns false to stop.
func (p prober) run(ctx context.Context, kind string, probe *corev1.Probe, verdict func(ok bool, message string) bool) {
	if !sleep(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	period := time.Duration(max(1, probe.PeriodSeconds)) * time.Second
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	successes, failures := int32(0), int32(0)
	if kind != "Liveness" && probe.SuccessThreshold <= 1 && p.quickly(ctx, kind, probe, period) {
		successes = 1
		if !verdict(true, "") {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	for {
		message, err := p.once(ctx, kind, probe)
		if ctx.Err() != nil {
			return
		}
		_, unasked := errors.AsType[*unaskedError](err)
		ok := err == nil
		switch {
		case ok:
			successes, failures = successes+1, 0
		case unasked: // which tells nothing about the container
			p.unhealthy(fmt.Sprintf("%s probe errored and resulted in unknown state: %v", kind, err))
		default:
			successes, failures = 0, failures+1
			p.unhealthy(fmt.Sprintf("%s probe failed: %v", kind, err))
		}
		switch {
		case unasked:
		case ok && successes == max(1, probe.SuccessThreshold), !ok && failures == max(1, probe.FailureThreshold):
			if !verdict(ok, message) {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p prober) unhealthy(message string) {
	p.worker.k.event(p.pod, containerPath(p.pod, p.container), corev1.EventTypeWarning, "Unhealthy", message)
}

// unaskedError is why a probe could not even ask: its command is not there, or its port has no such name.
type unaskedError struct{ error }

// quickly tries again and again during the first period, at growing distances, and counts no failure.
func (p prober) quickly(ctx context.Context, kind string, probe *corev1.Probe, period time.Duration) bool {
	end := time.Now().Add(period / 2)
	for pause := firstTries; time.Now().Before(end); pause = pause * 3 / 2 {
		if _, err := p.once(ctx, kind, probe); err == nil {
			return true
		}
		if !sleep(ctx, pause) {
			return false
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once probes one time, and counts it.
func (p prober) once(ctx context.Context, kind string, probe *corev1.Probe) (message string, err error) {
	message, err = p.ask(ctx, probe)
	if ctx.Err() == nil { // the container's end is no answer
		p.worker.k.counts.probed(p, kind, err == nil)
	}
	return message, err
}

func (p prober) ask(untimed context.Context, probe *corev1.Probe) (message string, err error) {
	timeout := time.Duration(max(1, probe.TimeoutSeconds)) * time.Second
	ctx, cancel := context.WithTimeout(untimed, timeout)
	defer cancel()
	p.worker.mu.Lock()
	ip := ""
	if s := p.worker.sandbox; s != nil && len(s.IPs) > 0 {
		ip = s.IPs[0]
	}
	p.worker.mu.Unlock()
	switch {
	case probe.Exec != nil:
		message, err = p.exec(ctx, probe.Exec.Command)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("command timed out: %q timed out after %s", strings.Join(probe.Exec.Command, " "), timeout)
		}
	case probe.HTTPGet != nil:
		message, err = httpGet(untimed, p.container, probe.HTTPGet, ip, timeout)
	case probe.TCPSocket != nil:
		err = tcpConnect(ctx, p.container, probe.TCPSocket, ip)
	case probe.GRPC != nil:
		err = grpcCheck(ctx, probe.GRPC, ip, timeout)
	}
	return message, err
}

// maxProbeOutput bounds what is kept of an exec probe's output, in bytes.
const maxProbeOutput = 10 << 10

// limitedBuffer takes both output streams of a command and keeps the beginning.
type limitedBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *limitedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, data[:min(len(data), maxProbeOutput-len(b.text))]...)
	return len(data), nil
}

func (b *limitedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

func (p prober) exec(ctx context.Context, command []string) (string, error) {
	var output limitedBuffer
	code, err := p.worker.k.runtime.Exec(ctx, p.id, command, runtime.Streams{Stdout: &output, Stderr: &output})
	if refused, ok := errors.AsType[*runtime.ExecError](err); ok {
		return "", &unaskedError{refused}
	}
	if err != nil {
		return "", err
	}
	if code != 0 {
		return "", errors.New(output.String())
	}
	return output.String(), nil
}

func tcpConnect(ctx context.Context, c *corev1.Container, action *corev1.TCPSocketAction, ip string) error {
	port, err := probePort(c, action.Port)
	if err != nil {
		return err
	}
	host := ip
	if action.Host != "" {
		host = action.Host
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// probePort turns a port's name into its number.
func probePort(c *corev1.Container, port intstr.IntOrString) (int, error) {
	if port.Type == intstr.Int {
		return port.IntValue(), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return int(p.ContainerPort), nil
		}
	}
	number, err := strconv.Atoi(port.StrVal)
	if err != nil {
		return 0, &unaskedError{err}
	}
	return number, nil
}

// probeClient makes a connection for each request and believes any certificate, as upstream does: the
// question is whether the server answers.
var probeClient = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true, Proxy: nil,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	},
	CheckRedirect: func(request *http.Request, via []*http.Request) error {
		if request.URL.Hostname() != via[0].URL.Hostname() || len(via) >= 10 {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

// httpGet succeeds with a status from 200 to 399, which comes in time. No timeout is no bound.
func httpGet(ctx context.Context, c *corev1.Container, action *corev1.HTTPGetAction, ip string, timeout time.Duration) (string, error) {
	port, err := probePort(c, action.Port)
	if err != nil {
		return "", err
	}
	host := ip
	if action.Host != "" {
		host = action.Host
	}
	target, err := url.Parse(action.Path)
	if err != nil {
		return "", err
	}
	target.Scheme = strings.ToLower(string(action.Scheme))
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	target.Host = net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(target.Path, "/") {
		target.Path = "/" + target.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("User-Agent", "kube-probe/"+kube.VersionMajor+"."+kube.VersionMinor)
	request.Header.Set("Accept", "*/*")
	for _, header := range action.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
			continue
		}
		request.Header.Add(header.Name, header.Value)
	}
	client := *probeClient
	client.Timeout = timeout
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxProbeOutput))
	if answer.StatusCode < 200 || answer.StatusCode >= 400 {
		return "", fmt.Errorf("HTTP probe failed with statuscode: %d", answer.StatusCode)
	}
	return string(body), nil
}
