package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Where units and the rotation of their logs are.
const (
	unitsDir      = "/etc/systemd/system"
	logrotateFile = "/etc/logrotate.d/podarium"
)

const logrotate = `# Written by podarium; removed by podarium reset.
/var/log/kube-apiserver.log /var/log/kube-controller-manager.log /var/log/kube-scheduler.log /var/log/kubelet.log /var/log/kube-proxy.log {
	size 10M
	rotate 3
	missingok
	notifempty
	copytruncate
}
`

// startUnits writes the units, starts those which do not run, and starts anew
// those which changed; the others are left alone.
func (m *Machine) startUnits(list []unit) error {
	if _, err := writeIfNew(logrotateFile, []byte(logrotate), 0o644); err != nil {
		return err
	}
	var names, restart []string
	for _, u := range list {
		changed, err := writeIfNew(filepath.Join(unitsDir, u.name()), []byte(u.text()), 0o644)
		if err != nil {
			return err
		}
		names = append(names, u.name())
		if changed || m.programsChanged || m.restart[u.process.Name] || !active(u.name()) {
			restart = append(restart, u.name())
		}
	}
	if err := systemctl("daemon-reload"); err != nil {
		return err
	}
	if err := systemctl(append([]string{"--quiet", "enable"}, names...)...); err != nil {
		return err
	}
	if len(restart) > 0 {
		if err := systemctl(append([]string{"restart"}, restart...)...); err != nil {
			return err
		}
	}
	m.found("services", len(restart) > 0, "%s", unitWords(names))
	return errors.Join(m.stopOthers(names), m.startRenewal())
}

// stopOthers removes what an earlier run with other flags has started: kube-proxy,
// when --proxy-mode is none now. As when kube-proxy is killed, its rules stay.
func (m *Machine) stopOthers(names []string) error {
	others := slices.DeleteFunc(slices.Clone(componentUnits), func(name string) bool { return slices.Contains(names, name) })
	removed, err := removeUnits(others)
	if err != nil {
		return fmt.Errorf("stop services: %w", err)
	}
	if len(removed) > 0 {
		m.say("services", "stopped: %s", unitWords(removed))
	}
	return nil
}

// startRenewal starts the timer which renews certificates.
func (m *Machine) startRenewal() error {
	changed := false
	for _, file := range [][2]string{{renewalService, renewalServiceText}, {renewalTimer, renewalTimerText}} {
		wrote, err := writeIfNew(filepath.Join(unitsDir, file[0]), []byte(file[1]), 0o644)
		if err != nil {
			return err
		}
		changed = changed || wrote
	}
	if changed {
		if err := systemctl("daemon-reload"); err != nil {
			return err
		}
	}
	return systemctl("--quiet", "enable", "--now", renewalTimer)
}

// restartChanged starts those anew whose files changed.
func (m *Machine) restartChanged(list []unit) error {
	var names []string
	for _, u := range list {
		if m.restart[u.process.Name] {
			names = append(names, u.name())
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := systemctl(append([]string{"restart"}, names...)...); err != nil {
		return err
	}
	m.say("services", "started anew: %s", unitWords(names))
	return nil
}

// removeUnits stops those which are here.
func removeUnits(names []string) (removed []string, err error) {
	for _, name := range names {
		if exists(filepath.Join(unitsDir, name)) {
			removed = append(removed, name)
		}
	}
	if len(removed) == 0 {
		return nil, nil
	}
	if err := systemctl(append([]string{"--quiet", "disable", "--now"}, removed...)...); err != nil {
		return nil, err
	}
	errs := []error{}
	for _, name := range removed {
		errs = append(errs, os.Remove(filepath.Join(unitsDir, name)))
	}
	errs = append(errs, systemctl("daemon-reload"))
	_ = exec.Command("systemctl", append([]string{"--quiet", "reset-failed"}, removed...)...).Run() // none may have failed
	return removed, errors.Join(errs...)
}

// componentUnits are those of every component, in the order in which they stop.
var componentUnits = []string{"kube-proxy.service", "kubelet.service", "kube-scheduler.service", "kube-controller-manager.service", "kube-apiserver.service"}

// unitWords names units for people.
func unitWords(names []string) string {
	return strings.ReplaceAll(strings.Join(names, " "), ".service", "")
}

// active tells whether a unit runs.
func active(unit string) bool {
	return exec.Command("systemctl", "--quiet", "is-active", unit).Run() == nil
}

func systemctl(args ...string) error {
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		words := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "--") })
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(words, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
