import { assemble } from './assemble.js'
import { OUTPUT } from './rom-routines.js'

/*
 * The ROM of the built-in guest: a machine that needs no operating system, prints, listens and
 * keeps its state in memory, so that a suspend and a resume can be seen to lose nothing.
 *
 * Memory map
 *   00000  interrupt vectors: 8 the timer (IRQ 0), 12 the serial port (IRQ 4)
 *   00500  the count, 32 bits
 *   00504  not zero: the timer has ticked since the last count
 *   07C00  the stack, downwards
 *   F0000  this ROM, 64 KiB; its offset 0 is F000:0000
 *   FFFF0  the reset vector: the first instruction a PC executes
 *
 * What it does
 *   1. Clears base address registers 0 to 3 of every device on PCI bus 0. A channel of v86's IDE
 *      controller that has no disk comes up with the I/O bit set in registers that v86 has no
 *      ports for; restore_state trips over those, and clearing them is what firmware would do.
 *   2. Sets COM1 to 115200 8N1 with an interrupt for received data.
 *   3. Points the interrupt controller at vectors 8 to 15 and lets IRQ 0 and IRQ 4 through.
 *   4. Sets the timer to its slowest, 65535 of its 1193182 Hz: 18.2 ticks a second.
 *   5. Halts until an interrupt. After a tick, counts and writes "count 297\r\n"; when something
 *      was typed, writes "echo: x\r\n". It waits for the transmitter before each byte and never
 *      spins on anything else, so the host's processor is idle between ticks.
 *
 * Ports: 16550 UART 3F8-3FD, 8259 PIC 20/21/A0/A1, 8254 PIT 40/43, PCI configuration CF8/CFC.
 */
const SOURCE = `
COM1    equ 0x3f8
IER     equ 0x3f9       ; which interrupts
LCR     equ 0x3fb       ; line control: bit 7 shows the divisor in place of data and IER
MCR     equ 0x3fc       ; modem control
LSR     equ 0x3fd       ; line status: bit 0 received, bit 5 ready to send
count   equ 0x500
ticked  equ 0x504

start:  cli
        cld
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov dword [count], 0
        mov byte [ticked], 0

; 1. PCI: ebx walks over the 256 functions of bus 0
        mov ebx, 0x80000000
pci:    mov eax, ebx
        mov dx, 0xcf8
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        cmp eax, 0xffffffff     ; nobody here
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

; 2. COM1
        mov dx, LCR
        mov al, 0x80
        out dx, al
        mov dx, COM1
        mov al, 1               ; 115200 / 1
        out dx, al
        mov dx, IER
        xor al, al
        out dx, al
        mov dx, LCR
        mov al, 3               ; 8 bits, no parity, 1 stop bit
        out dx, al
        mov dx, IER
        mov al, 1               ; data received
        out dx, al
        mov dx, MCR
        mov al, 0x0b            ; ready, and the interrupt line connected
        out dx, al

; 3. interrupts
        mov word [0x20], timer
        mov word [0x22], 0xf000
        mov word [0x30], serial
        mov word [0x32], 0xf000
        mov al, 0x11
        out 0x20, al
        mov al, 8
        out 0x21, al
        mov al, 4
        out 0x21, al
        mov al, 1
        out 0x21, al
        mov al, 0xee            ; masked: all but IRQ 0 and 4
        out 0x21, al
        mov al, 0xff
        out 0xa1, al

; 4. timer 0, low byte then high byte, mode 2
        mov al, 0x34
        out 0x43, al
        mov al, 0xff
        out 0x40, al
        out 0x40, al

; 5. wait: what is there to do is looked at with interrupts off, so that none is slept through
main:   cli
        cmp byte [ticked], 0
        jne tick
        mov dx, LSR
        in al, dx
        test al, 1
        jne key
        sti
        hlt
        jmp main

tick:   mov byte [ticked], 0
        sti
        inc dword [count]
        mov si, scount
        call puts
        mov eax, dword [count]
        call putn
        mov si, newline
        call puts
        jmp main

key:    mov dx, COM1
        in al, dx
        sti
        cmp al, 0x20            ; not the control characters
        jb main
        push ax
        mov si, secho
        call puts
        pop ax
        call putc
        mov si, newline
        call puts
        jmp main

timer:  mov byte [ticked], 1
serial: push ax
        mov al, 0x20            ; end of interrupt
        out 0x20, al
        pop ax
        iret

${OUTPUT}
scount: db "count ", 0
secho:  db "echo: ", 0
newline: db 13, 10, 0

        org 0xfff0
        jmp 0xf000:start
`

let image: Uint8Array | null = null

/** The built-in ROM: 64 KiB, assembled when it is first asked for. Not to be written to. */
export function builtInRom(): Uint8Array {
  image ??= assemble(SOURCE, 64 * 1024)
  return image
}
