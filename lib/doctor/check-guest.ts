import { assemble } from '../vmm/assemble.js'
import { OUTPUT } from '../vmm/rom-routines.js'

/*
 * A guest without an operating system that tells whether its memory is what it was. It starts at the
 * reset vector of a ROM of 64 KiB, counts all the time (00500, 32 bits) and answers single letters on
 * COM1:
 *
 *   c  "count N": how far it has come
 *   w  "wrote 0": puts a mark into the first byte of each of PAGES pages of 4 KiB from 20000 on,
 *      another each time (00504)
 *   r  "pages N": how many of them have it
 *
 * It spins and has no interrupts. Ports: 16550 UART 3F8-3FD.
 */
export const PAGES = 64

const SOURCE = `
COM1    equ 0x3f8
LSR     equ 0x3fd
count   equ 0x500
mark    equ 0x504
first   equ 0x2000      ; a segment
last    equ 0x6000

start:  cli
        cld
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov dword [count], 0
        mov byte [mark], 0x5a
        mov dx, 0x3fb
        mov al, 0x80
        out dx, al
        mov dx, COM1
        mov al, 1               ; 115200
        out dx, al
        mov dx, 0x3f9
        xor al, al
        out dx, al
        mov dx, 0x3fb
        mov al, 3               ; 8 bits, no parity, 1 stop bit
        out dx, al
        mov dx, 0x3f9
        xor al, al
        out dx, al

main:   inc dword [count]
        mov dx, LSR
        in al, dx
        test al, 1
        je main
        mov dx, COM1
        in al, dx
        cmp al, 'c'
        je say
        cmp al, 'w'
        je write
        cmp al, 'r'
        je read
        jmp main

say:    mov si, scount
        call puts
        mov eax, dword [count]
        call line
        jmp main

write:  inc byte [mark]
        mov ah, byte [mark]
        mov bx, first
page:   mov ds, bx
        mov byte [0], ah
        add bx, 0x100
        cmp bx, last
        jb page
        xor ax, ax
        mov ds, ax
        mov si, swrote
        call puts
        xor eax, eax
        call line
        jmp main

read:   xor ecx, ecx
        mov ah, byte [mark]
        mov bx, first
look:   mov ds, bx
        cmp byte [0], ah
        jne next
        inc ecx
next:   add bx, 0x100
        cmp bx, last
        jb look
        xor ax, ax
        mov ds, ax
        mov si, spages
        call puts
        mov eax, ecx
        call line
        jmp main

line:   call putn               ; eax and the end of the line
        mov si, newline
        call puts
        ret
${OUTPUT}
scount: db "count ", 0
swrote: db "wrote ", 0
spages: db "pages ", 0
newline: db 13, 10, 0

        org 0xfff0
        jmp 0xf000:start
`

/** The guest's ROM. */
export function checkRom(): Uint8Array {
  return assemble(SOURCE, 64 * 1024)
}
