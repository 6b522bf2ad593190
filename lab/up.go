package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/lab/world"
	"github.com/podarium/podarium/machine"
)

// upTimeout bounds the whole start. A start takes a few seconds; what is not
// there after a minute will not come.
const upTimeout = time.Minute

// Up starts a lab: the steps in order, each told on out as it ends. When it
// returns without an error, all nodes are Ready and a pod's question for
// kubernetes.default has been answered.
func Up(ctx context.Context, cfg world.Config, out io.Writer) error {
	t := NewTimeline(out)
	if err := errors.Join(cfg.Validate(), machine.Check(slices.Concat(machine.ContainerNeeds, machine.ProxyNeeds(cfg.ProxyMode))...)); err != nil {
		return err
	}
	lock, err := lockLab(cfg.Name)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, upTimeout, fmt.Errorf("not up after %v", upTimeout))
	defer cancel()
	cfg, err = prepare(cfg)
	if err != nil {
		return err
	}
	t.Step("machine checked, folders and certificates in %s", cfg.Dir())
	images := make(chan error, 1)
	go func() { images <- machine.MakeImages(cfg.ImagesDir(), filepath.Dir(cfg.Executable)) }()
	pid, err := startWorld(cfg, lock)
	if err != nil {
		return err
	}
	t.Step("world, switch and %d nodes (PID %d)", cfg.Nodes, pid)
	if err := bringUp(ctx, cfg, t, images); err != nil {
		return errors.Join(fmt.Errorf("lab %s did not come up (logs in %s): %w", cfg.Name, cfg.Dir(), cause(ctx, err)), endWorld(pid, true), clean(cfg))
	}
	return nil
}

// bringUp is what the cluster does once its processes run.
func bringUp(ctx context.Context, cfg world.Config, t *Timeline, images <-chan error) error {
	client, err := kube.Client(cfg.AdminKubeconfig(), "podarium")
	if err != nil {
		return err
	}
	starting, stop := failWhenCrashing(ctx, cfg)
	defer stop()
	if err := kube.WaitReady(starting, client); err != nil {
		return cause(starting, err)
	}
	t.Step("API server answers at %s", cfg.HostURL())
	if err := <-images; err != nil { // before the first pod: a missing image would cost it a back-off of 10 s
		return err
	}
	t.Step("images %s, %s, %s", machine.PodariumImage, machine.BusyboxImage, machine.SimpleserviceImage)
	if err := machine.ApplyDNS(ctx, client, cfg.Cluster()); err != nil {
		return err
	}
	t.Step("kube-dns applied")
	if err := addContext(cfg); err != nil {
		return err
	}
	if err := waitCluster(ctx, cfg, client, t); err != nil {
		return err
	}
	t.Step("up: kubectl context %q", cfg.Context())
	return nil
}

func waitCluster(ctx context.Context, cfg world.Config, client kubernetes.Interface, t *Timeline) error {
	if err := waitNodes(ctx, client, cfg.Nodes, t.began); err != nil {
		return err
	}
	if err := machine.MarkControlPlane(ctx, client, world.NodeName(1)); err != nil {
		return err
	}
	t.Step("%d nodes Ready", cfg.Nodes)
	if cfg.ProxyMode == "none" || cfg.PodNetwork == "none" {
		return nil // no way to a Service without them, as asked for
	}
	pod, pid, err := waitDNSPod(ctx, cfg, client, t.began)
	if err != nil {
		return err
	}
	t.Step("pod %s Ready on %s", pod.Name, pod.Spec.NodeName)
	answer, err := waitDNSAnswer(ctx, cfg, pid)
	if err != nil {
		return err
	}
	t.Step("kubernetes.default.svc.cluster.local is %s, asked from a pod", answer)
	return nil
}

// cause prefers the reason a context ended for over what noticed it.
func cause(ctx context.Context, err error) error {
	if reason := context.Cause(ctx); reason != nil {
		return reason
	}
	return err
}

// lockLab takes the lab's lock, which its world holds as long as it lives: the
// kernel gives it back whatever happens to the holder.
func lockLab(name string) (*os.File, error) {
	if err := os.MkdirAll(world.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(world.Dir(name), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		file.Close()
		return nil, fmt.Errorf("lab %s is up already: look at it with `podarium status --name %s`, or end it with `podarium down --name %s`", name, name, name)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock lab %s: %w", name, err)
	}
	return file, nil
}

// prepare makes the state folder whole: a new one, or one whose lab ended in
// good order or not. What a state folder was made with it keeps, for the
// objects in its etcd carry those addresses.
func prepare(cfg world.Config) (world.Config, error) {
	if err := clean(cfg); err != nil {
		return cfg, err
	}
	old, err := world.Load(cfg.Name)
	switch {
	case err == nil:
		if err := compatible(old, cfg); err != nil {
			return cfg, err
		}
		cfg.APIPort = old.APIPort
	case !errors.Is(err, os.ErrNotExist):
		return cfg, err
	}
	if cfg.Executable, err = os.Executable(); err != nil {
		return cfg, fmt.Errorf("find own program: %w", err)
	}
	if cfg.APIPort == 0 {
		if cfg.APIPort, err = freePort(); err != nil {
			return cfg, err
		}
	}
	errs := []error{writeIdentities(cfg)}
	for n := 1; n <= cfg.Nodes; n++ {
		errs = append(errs, world.WriteNodeFiles(cfg, n), machine.InstallCNI(cfg.NodePath(n), filepath.Dir(cfg.Executable)))
	}
	errs = append(errs, os.MkdirAll(cfg.ImagesDir(), 0o755), os.MkdirAll(cfg.Path("egress"), 0o700))
	if err := errors.Join(errs...); err != nil {
		return cfg, err
	}
	return cfg, cfg.Save()
}

// compatible refuses to start a cluster's state with another address plan.
func compatible(old, cfg world.Config) error {
	if old.Nodes == cfg.Nodes && old.ClusterCIDR == cfg.ClusterCIDR && old.ServiceClusterIPRange == cfg.ServiceClusterIPRange {
		return nil
	}
	return fmt.Errorf("lab %s was made with --nodes %d --cluster-cidr %s --service-cluster-ip-range %s: use these, or remove it first with `podarium down --name %s`",
		old.Name, old.Nodes, old.ClusterCIDR, old.ServiceClusterIPRange, old.Name)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// startWorld forks the world into its namespaces and waits until it says that
// all nodes have been started.
func startWorld(cfg world.Config, lock *os.File) (int, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", cfg.APIPort))
	if err != nil {
		return 0, fmt.Errorf("open the API server's port on the machine (is another program on it?): %w", err)
	}
	defer listener.Close()
	files, err := worldFiles(cfg, listener.(*net.TCPListener), lock)
	if err != nil {
		return 0, err
	}
	defer files.close()
	cmd := &exec.Cmd{
		Path:       filepath.Join(filepath.Dir(cfg.Executable), "podarium-world"),
		Args:       []string{world.Argv0, cfg.Name},
		Env:        os.Environ(),
		Stdout:     files.log,
		Stderr:     files.log,
		ExtraFiles: []*os.File{files.api, files.hostNet, lock, files.readyWrite},
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		},
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start world: %w", err)
	}
	files.readyWrite.Close()
	said, err := io.ReadAll(files.ready)
	if err == nil && len(said) > 0 {
		err = errors.New(string(said))
	}
	if err != nil {
		_ = cmd.Wait() // it has said why it ends
		return 0, errors.Join(fmt.Errorf("start world: %w", err), clean(cfg))
	}
	return cmd.Process.Pid, nil
}

// worldFileSet is what the world inherits.
type worldFileSet struct {
	api, hostNet, log, ready, readyWrite *os.File
}

func worldFiles(cfg world.Config, listener *net.TCPListener, lock *os.File) (worldFileSet, error) {
	var f worldFileSet
	var errs [4]error
	f.api, errs[0] = listener.File()
	f.hostNet, errs[1] = os.Open("/proc/self/ns/net")
	f.log, errs[2] = os.OpenFile(cfg.Path("world.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	f.ready, f.readyWrite, errs[3] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		f.close()
		return f, fmt.Errorf("prepare world: %w", err)
	}
	return f, nil
}

func (f worldFileSet) close() {
	for _, file := range []*os.File{f.api, f.hostNet, f.log, f.ready, f.readyWrite} {
		file.Close() // nil or closed already is fine
	}
}
