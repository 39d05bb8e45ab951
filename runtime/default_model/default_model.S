// Takes the default model's file into the library as it is, for ELF systems (GNU as and clang). The
// build defines HOB_DEFAULT_MODEL_FILE as the file's path; a missing file is an error of the
// assembler that names it. default_model.cc reads the bytes.
#if !defined(HOB_DEFAULT_MODEL_FILE)
#error HOB_DEFAULT_MODEL_FILE must be the path of the default model, in quotes
#endif

        .section .rodata.hob_default_model, "a", %progbits
        .balign 64
        .global hob_default_model_begin
        .hidden hob_default_model_begin
        .type   hob_default_model_begin, %object
hob_default_model_begin:
        .incbin HOB_DEFAULT_MODEL_FILE
        .size   hob_default_model_begin, . - hob_default_model_begin

        .global hob_default_model_end
        .hidden hob_default_model_end
        .type   hob_default_model_end, %object
hob_default_model_end:
        .byte   0

        // Data only: the stack need not be executable.
        .section .note.GNU-stack, "", %progbits
