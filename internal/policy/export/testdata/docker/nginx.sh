# How nginx runs under docker, learned by Brig from docker.io/library/nginx:1.27.
# Note: a system call that Brig, or the libseccomp that crun uses, is too old to know fails with EPERM under crun, and with ENOSYS under Brig and runc.
# Note: x86 programs that call socket through socketcall may do so with any arguments under runc and crun, and not at all under Brig.
docker run \
	--cap-drop ALL \
	--cap-add CHOWN \
	--cap-add SETGID \
	--cap-add SETUID \
	--cap-add NET_BIND_SERVICE \
	--security-opt seccomp=nginx.json \
	docker.io/library/nginx:1.27 nginx -g 'daemon off;'
