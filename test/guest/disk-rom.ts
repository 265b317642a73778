import { assemble } from '../../lib/vmm/assemble.js'

/*
 * A guest for v86 that uses its disk: for each small letter that is typed it reads the first byte of
 * a sector, 'a' the first and each other 128 KiB behind the one before, prints "a=X", and writes the
 * sector full of X + 1. It has no interrupts and spins.
 *
 * Ports: 16550 UART 3F8/3FD, ATA 1F0-1F7 (ATA/ATAPI-6, PIO data-in and data-out commands), PCI
 * configuration CF8/CFC, whose base addresses are cleared as in the built-in ROM.
 */
const SOURCE = `
start:  cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00

        mov ebx, 0x80000000
pci:    mov eax, ebx
        mov dx, 0xcf8
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        cmp eax, 0xffffffff
        je pcinext
        mov eax, ebx
        mov al, 0x10
bar:    mov dx, 0xcf8
        out dx, eax
        push eax
        mov dx, 0xcfc
        xor eax, eax
        out dx, eax
        pop eax
        add al, 4
        cmp al, 0x20
        jb bar
pcinext:
        add ebx, 0x100
        cmp ebx, 0x80010000
        jb pci

main:   mov dx, 0x3fd
        in al, dx
        test al, 1
        je main
        mov dx, 0x3f8
        in al, dx
        cmp al, 0x61
        jb main
        mov bl, al              ; bl: the letter
        call putc
        mov al, '='
        call putc

        mov cl, 0x20            ; read sectors
        call begin
        in ax, dx
        mov bh, al              ; bh: what stands there
        mov cx, 255
rest:   in ax, dx
        loop rest
        mov al, bh
        call putc
        mov al, 13
        call putc
        mov al, 10
        call putc

        mov cl, 0x30            ; write sectors
        call begin
        add bh, 1
        mov al, bh
        mov ah, bh
        mov cx, 256
more:   out dx, ax
        loop more
        mov dx, 0x1f7
busy:   in al, dx
        test al, 0x80
        jne busy
        jmp main

begin:  mov dx, 0x1f6           ; a command of one sector, until it wants data
        mov al, 0xe0
        out dx, al
        mov dx, 0x1f2
        mov al, 1
        out dx, al
        mov dx, 0x1f3
        xor al, al
        out dx, al
        mov dx, 0x1f4
        mov al, bl
        sub al, 0x61
        out dx, al
        mov dx, 0x1f5
        xor al, al
        out dx, al
        mov dx, 0x1f7
        mov al, cl
        out dx, al
wait:   in al, dx
        test al, 8
        je wait
        mov dx, 0x1f0
        ret

putc:   push ax
        mov dx, 0x3fd
ready:  in al, dx
        test al, 0x20
        je ready
        pop ax
        mov dx, 0x3f8
        out dx, al
        ret

        org 0xfff0
        jmp 0xf000:start
`

export function diskRom(): Uint8Array {
  return assemble(SOURCE, 64 * 1024)
}
