#!/usr/bin/env bash
# The harness with AVX-512 and AVX2, in Linux on Bochs, an emulator of whole machines: QEMU has no AVX-512, and its masked
# loads of AVX2 read what is masked out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${NNPAR_ISA_CACHE:-$HOME/.cache/nnpar-isa}
work=$(mktemp -d)
emulator=
trap '[ -z "$emulator" ] || kill "$emulator" 2> /dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$cache" "$work"/{root/{bin,dev,proc},disc/isolinux}

if ! compgen -G "$cache/boot/vmlinuz-*" > /dev/null; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p')
    (cd "$work" && apt-get download -qq "$package" && dpkg -x "$package"_*.deb package)
    cp -r "$work/package/boot" "$cache"
fi

CC=x86_64-linux-gnu-gcc python3 "$here/compile.py" x86_64 "$work/root/harness"
cp /bin/busybox "$work/root/bin"
cat > "$work/root/init" << 'INIT'
#!/bin/busybox sh
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t devtmpfs dev /dev
exec > /dev/ttyS0 2>&1
/harness avx512 avx2
echo "status $?"
$busybox sleep 1 # the serial line is slow
$busybox poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio --quiet -o -H newc | gzip -1 > "$work/disc/root.gz")
cp "$cache"/boot/vmlinuz-* "$work/disc/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/disc/isolinux"
# With XSAVEC as Bochs has it, Linux switches AVX off.
cat > "$work/disc/isolinux/isolinux.cfg" << 'CONFIG'
default linux
prompt 0
timeout 1
label linux
kernel /vmlinuz
append initrd=/root.gz clearcpuid=xsavec,xsaves console=ttyS0,115200 loglevel=1 nokaslr mitigations=off no_timer_check noapic tsc=reliable panic=-1
CONFIG
xorriso -as mkisofs -quiet -o "$work/disc.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table "$work/disc" 2> "$work/log"

cat > "$work/bochsrc" << CONFIG
config_interface: textconfig
display_library: term
megs: 512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
cpu: model=corei7_skylake_x, count=1, ips=100000000, reset_on_triple_fault=0
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
clock: sync=none
log: $work/log
panic: action=fatal
error: action=report
sound: driver=dummy
speaker: enabled=0
CONFIG
echo c > "$work/continue"
touch "$work/serial"
TERM=vt100 timeout 600 script -q -c "exec bochs -q -f $work/bochsrc -rc $work/continue" /dev/null < /dev/null > "$work/screen" 2>&1 &
emulator=$!
while kill -0 "$emulator" 2> /dev/null && ! grep -q "^status" "$work/serial"; do sleep 1; done
tr -d '\r' < "$work/serial"
grep -q "^status 0" "$work/serial"
