package compose

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// argsOf returns the arguments for the service "a" of a compose file, a line each.
func argsOf(t *testing.T, text string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := load(context.Background(), Files{Files: []string{file}, Name: "p"})
	if err != nil {
		return "", err
	}
	s := p.Services["a"]
	args, err := createArgs(p, &s)
	return strings.ReplaceAll(strings.Join(args, "\n"), dir, "DIR"), err
}

func TestCreateArgs(t *testing.T) {
	for name, c := range map[string]struct{ service, rest, want string }{
		"privileges": {"cap_add: [NET_ADMIN]\ncap_drop: [ALL]\nsecurity_opt: ['seccomp:p.json', 'no-new-privileges:true', 'seccomp=unconfined']\nprivileged: true", "",
			"--cap-add=NET_ADMIN --cap-drop=ALL --privileged --security-opt=seccomp=DIR/p.json --security-opt=no-new-privileges:true --security-opt=seccomp=unconfined"},
		"process": {"environment: {B: c, A: 'x y'}\nuser: '1:2'\nworking_dir: /w\ninit: true\ntty: true\nstdin_open: true\nhostname: h", "",
			"--tty --interactive --env=A=x y --env=B=c --workdir=/w --user=1:2 --init --hostname=h"},
		"limits": {"mem_limit: 64m\ncpus: 1.5\npids_limit: 9\nshm_size: 1m\nulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}", "",
			"--memory=67108864 --cpus=1.5 --pids-limit=9 --shm-size=1048576 --ulimit=nofile=1:2 --ulimit=nproc=3"},
		"deploy": {"deploy: {resources: {limits: {cpus: '0.5', memory: 8m, pids: 7}}, restart_policy: {condition: on-failure, max_attempts: 3}}", "",
			"--cpus=0.5 --memory=8388608 --pids-limit=7 --restart=on-failure:3"},
		"volumes": {"volumes: ['./d:/d:ro', 'vol:/v', '/anonymous', {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}, {type: bind, source: '/a,b', target: /c, bind: {propagation: rslave}}]", "volumes: {vol: {}}",
			"--mount=type=bind,source=DIR/d,target=/d,readonly --mount=type=volume,source=p_vol,target=/v --mount=type=volume,target=/anonymous" +
				` --mount=type=tmpfs,target=/t,tmpfs-size=1048576,tmpfs-mode=700 --mount=type=bind,"source=/a,b",target=/c,bind-propagation=rslave`},
		"ports": {"ports: ['80', '8080:80', '127.0.0.1:53:53/udp', '[::1]:9:9', '90-91:90-91']", "",
			"--publish=80/tcp --publish=8080:80/tcp --publish=127.0.0.1:53:53/udp --publish=[::1]:9:9/tcp --publish=90:90/tcp --publish=91:91/tcp"},
		"health": {"healthcheck: {test: [CMD, curl, \"it's\"], interval: 5s, retries: 2}", "", `--health-cmd='curl' 'it'\''s' --health-interval=5s --health-retries=2`},
		"shell":  {"healthcheck: {test: 'a && b', start_period: 1m}", "", "--health-cmd=a && b --health-start-period=1m0s"},
		"none":   {"healthcheck: {disable: true}", "", "--no-healthcheck"},
		"secrets": {"secrets: [s]\nconfigs: [{source: c, target: /etc/c}]", "secrets: {s: {file: ./s}}\nconfigs: {c: {file: ./c}}",
			"--mount=type=bind,source=DIR/s,target=/run/secrets/s,readonly --mount=type=bind,source=DIR/c,target=/etc/c,readonly"},
		"life": {"restart: unless-stopped\nstop_signal: INT\nstop_grace_period: 1m30s\nlogging: {driver: json-file, options: {max-size: 1m}}\nlabels: {l: v}", "",
			"--restart=unless-stopped --stop-signal=INT --stop-timeout=90 --log-driver=json-file --log-opt=max-size=1m --label=l=v"},
	} {
		t.Run(name, func(t *testing.T) {
			service := "    image: i\n    network_mode: none\n    " + strings.ReplaceAll(c.service, "\n", "\n    ")
			got, err := argsOf(t, "services:\n  a:\n"+service+"\n"+c.rest+"\n")
			if err != nil {
				t.Fatal(err)
			}
			got = strings.Join(strings.Split(got, "\n"), " ")
			got = strings.TrimSuffix(strings.Replace(got, "--network=none ", "", 1), " i")
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestNetworksAndCommands(t *testing.T) {
	for text, want := range map[string]string{
		"services: {a: {image: i}}":                                                                                                              "--network=name=p_default,alias=a i",
		"services: {a: {image: i, command: x 'y z'}}":                                                                                            "--network=name=p_default,alias=a i x y z",
		"services: {a: {image: i, entrypoint: [e, f], command: [x]}}":                                                                            "--network=name=p_default,alias=a --entrypoint=e i f x",
		"services: {a: {image: i, network_mode: 'service:b'}, b: {image: i}}":                                                                    "--network=container:p-b-1 i",
		"services: {a: {image: i, pid: 'service:b', network_mode: host}, b: {image: i, container_name: cc}}":                                     "--pid=container:cc --network=host i",
		"services: {a: {image: i, networks: {x: {aliases: [y]}, w: {priority: 9, ipv4_address: 10.1.1.9}}}}\nnetworks: {x: {}, w: {name: real}}": "--network=name=real,alias=a,ip=10.1.1.9 --network=name=p_x,alias=a,alias=y i",
	} {
		got, err := argsOf(t, text)
		if got = strings.ReplaceAll(got, "\n", " "); err != nil || got != want {
			t.Errorf("%s\ngot  %s %v\nwant %s", text, got, err, want)
		}
	}
}

// What would have no effect is refused, with its key.
func TestRefused(t *testing.T) {
	for service, want := range map[string]string{
		"{image: i, cgroup_parent: x}":                               "services.a.cgroup_parent: Brig does not support",
		"{image: i, gpus: all}":                                      "services.a.gpus: ",
		"{image: i, imag: x}":                                        "services.a.imag: unknown key; did you mean image?",
		"{image: i, volumes: [{type: npipe, source: x, target: y}]}": "services.a.volumes[0].type: \"npipe\"",
		"{image: i, healthcheck: {test: [cmd, x]}}":                  "healthcheck.test must start",
		"{build: .}":                    "services.a: there is no image",
		"{image: i, volumes_from: [b]}": "\"b\"",
	} {
		_, err := argsOf(t, "services: {a: "+service+"}")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", service, err)
		}
	}
}
