# Boots systemd in namespaces of its own, on an overlay over the files in ROOT. /run/changed shows what is written.
# usage: unshare --fork --pid --mount --net --uts --ipc --cgroup sh boot.sh FOLDER ROOT BROUGHT PLACE
# BROUGHT is a folder with what is to be tested, which is seen at PLACE.
set -e
folder=$1 lower=$2 brought=$3 place=${4#/}
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
root=$folder/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
cd "$root"
mkdir -p "$place"
mount --bind -o ro "$brought" "$place"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
# systemd puts its units into one of these, whichever kind of cgroups this machine has.
if mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd 2>/dev/null; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified || true
else
    umount sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts dev/net dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
touch dev/net/tun
mount --bind /dev/net/tun dev/net/tun
mkdir -p run/netns run/changed var/lib/fz
mount --bind -o ro "$folder/upper" run/changed
# Nothing of this machine's own services starts.
rm -rf etc/systemd/system etc/systemd/network etc/fz-iproute var/log/journal
rm -f usr/sbin/policy-rc.d # an image for containers forbids its packages to start services
mkdir -p etc/systemd/system etc/systemd/network etc/fz-iproute
: >etc/machine-id
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-logind.service getty.target console-getty.service \
    systemd-tmpfiles-setup.service systemd-timesyncd.service systemd-resolved.service remote-fs.target; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
mkdir .old
pivot_root . .old
umount -l /.old
container=fz exec /lib/systemd/systemd --log-target=journal --show-status=false >/dev/null 2>&1
