/**
 * Routines of our ROMs, in the language of `assemble`: `putc` writes al to COM1 and waits until it can,
 * `puts` the text at cs:si up to a zero, `putn` eax in decimal. LSR is the line status port 3FD, COM1
 * the data port 3F8.
 */
export const OUTPUT = `
putc:   push ax                 ; al to COM1
        mov dx, LSR
ready:  in al, dx
        test al, 0x20
        je ready
        pop ax
        mov dx, COM1
        out dx, al
        ret

puts:   cs                      ; the text at cs:si, up to a zero
        lodsb
        test al, al
        je done
        call putc
        jmp puts
done:   ret

putn:   mov ebx, 10             ; eax in decimal
        xor cx, cx
digit:  xor edx, edx
        div ebx
        push dx
        inc cx
        test eax, eax
        jne digit
show:   pop ax
        add al, '0'
        call putc
        loop show
        ret
`
