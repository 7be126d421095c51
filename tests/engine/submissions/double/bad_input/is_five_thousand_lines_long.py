import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x


def unused_0(x):
    return x + 0


def unused_1(x):
    return x + 1


def unused_2(x):
    return x + 2


def unused_3(x):
    return x + 3


def unused_4(x):
    return x + 4


def unused_5(x):
    return x + 5


def unused_6(x):
    return x + 6


def unused_7(x):
    return x + 7


def unused_8(x):
    return x + 8


def unused_9(x):
    return x + 9


def unused_10(x):
    return x + 10


def unused_11(x):
    return x + 11


def unused_12(x):
    return x + 12


def unused_13(x):
    return x + 13


def unused_14(x):
    return x + 14


def unused_15(x):
    return x + 15


def unused_16(x):
    return x + 16


def unused_17(x):
    return x + 17


def unused_18(x):
    return x + 18


def unused_19(x):
    return x + 19


def unused_20(x):
    return x + 20


def unused_21(x):
    return x + 21


def unused_22(x):
    return x + 22


def unused_23(x):
    return x + 23


def unused_24(x):
    return x + 24


def unused_25(x):
    return x + 25


def unused_26(x):
    return x + 26


def unused_27(x):
    return x + 27


def unused_28(x):
    return x + 28


def unused_29(x):
    return x + 29


def unused_30(x):
    return x + 30


def unused_31(x):
    return x + 31


def unused_32(x):
    return x + 32


def unused_33(x):
    return x + 33


def unused_34(x):
    return x + 34


def unused_35(x):
    return x + 35


def unused_36(x):
    return x + 36


def unused_37(x):
    return x + 37


def unused_38(x):
    return x + 38


def unused_39(x):
    return x + 39


def unused_40(x):
    return x + 40


def unused_41(x):
    return x + 41


def unused_42(x):
    return x + 42


def unused_43(x):
    return x + 43


def unused_44(x):
    return x + 44


def unused_45(x):
    return x + 45


def unused_46(x):
    return x + 46


def unused_47(x):
    return x + 47


def unused_48(x):
    return x + 48


def unused_49(x):
    return x + 49


def unused_50(x):
    return x + 50


def unused_51(x):
    return x + 51


def unused_52(x):
    return x + 52


def unused_53(x):
    return x + 53


def unused_54(x):
    return x + 54


def unused_55(x):
    return x + 55


def unused_56(x):
    return x + 56


def unused_57(x):
    return x + 57


def unused_58(x):
    return x + 58


def unused_59(x):
    return x + 59


def unused_60(x):
    return x + 60


def unused_61(x):
    return x + 61


def unused_62(x):
    return x + 62


def unused_63(x):
    return x + 63


def unused_64(x):
    return x + 64


def unused_65(x):
    return x + 65


def unused_66(x):
    return x + 66


def unused_67(x):
    return x + 67


def unused_68(x):
    return x + 68


def unused_69(x):
    return x + 69


def unused_70(x):
    return x + 70


def unused_71(x):
    return x + 71


def unused_72(x):
    return x + 72


def unused_73(x):
    return x + 73


def unused_74(x):
    return x + 74


def unused_75(x):
    return x + 75


def unused_76(x):
    return x + 76


def unused_77(x):
    return x + 77


def unused_78(x):
    return x + 78


def unused_79(x):
    return x + 79


def unused_80(x):
    return x + 80


def unused_81(x):
    return x + 81


def unused_82(x):
    return x + 82


def unused_83(x):
    return x + 83


def unused_84(x):
    return x + 84


def unused_85(x):
    return x + 85


def unused_86(x):
    return x + 86


def unused_87(x):
    return x + 87


def unused_88(x):
    return x + 88


def unused_89(x):
    return x + 89


def unused_90(x):
    return x + 90


def unused_91(x):
    return x + 91


def unused_92(x):
    return x + 92


def unused_93(x):
    return x + 93


def unused_94(x):
    return x + 94


def unused_95(x):
    return x + 95


def unused_96(x):
    return x + 96


def unused_97(x):
    return x + 97


def unused_98(x):
    return x + 98


def unused_99(x):
    return x + 99


def unused_100(x):
    return x + 100


def unused_101(x):
    return x + 101


def unused_102(x):
    return x + 102


def unused_103(x):
    return x + 103


def unused_104(x):
    return x + 104


def unused_105(x):
    return x + 105


def unused_106(x):
    return x + 106


def unused_107(x):
    return x + 107


def unused_108(x):
    return x + 108


def unused_109(x):
    return x + 109


def unused_110(x):
    return x + 110


def unused_111(x):
    return x + 111


def unused_112(x):
    return x + 112


def unused_113(x):
    return x + 113


def unused_114(x):
    return x + 114


def unused_115(x):
    return x + 115


def unused_116(x):
    return x + 116


def unused_117(x):
    return x + 117


def unused_118(x):
    return x + 118


def unused_119(x):
    return x + 119


def unused_120(x):
    return x + 120


def unused_121(x):
    return x + 121


def unused_122(x):
    return x + 122


def unused_123(x):
    return x + 123


def unused_124(x):
    return x + 124


def unused_125(x):
    return x + 125


def unused_126(x):
    return x + 126


def unused_127(x):
    return x + 127


def unused_128(x):
    return x + 128


def unused_129(x):
    return x + 129


def unused_130(x):
    return x + 130


def unused_131(x):
    return x + 131


def unused_132(x):
    return x + 132


def unused_133(x):
    return x + 133


def unused_134(x):
    return x + 134


def unused_135(x):
    return x + 135


def unused_136(x):
    return x + 136


def unused_137(x):
    return x + 137


def unused_138(x):
    return x + 138


def unused_139(x):
    return x + 139


def unused_140(x):
    return x + 140


def unused_141(x):
    return x + 141


def unused_142(x):
    return x + 142


def unused_143(x):
    return x + 143


def unused_144(x):
    return x + 144


def unused_145(x):
    return x + 145


def unused_146(x):
    return x + 146


def unused_147(x):
    return x + 147


def unused_148(x):
    return x + 148


def unused_149(x):
    return x + 149


def unused_150(x):
    return x + 150


def unused_151(x):
    return x + 151


def unused_152(x):
    return x + 152


def unused_153(x):
    return x + 153


def unused_154(x):
    return x + 154


def unused_155(x):
    return x + 155


def unused_156(x):
    return x + 156


def unused_157(x):
    return x + 157


def unused_158(x):
    return x + 158


def unused_159(x):
    return x + 159


def unused_160(x):
    return x + 160


def unused_161(x):
    return x + 161


def unused_162(x):
    return x + 162


def unused_163(x):
    return x + 163


def unused_164(x):
    return x + 164


def unused_165(x):
    return x + 165


def unused_166(x):
    return x + 166


def unused_167(x):
    return x + 167


def unused_168(x):
    return x + 168


def unused_169(x):
    return x + 169


def unused_170(x):
    return x + 170


def unused_171(x):
    return x + 171


def unused_172(x):
    return x + 172


def unused_173(x):
    return x + 173


def unused_174(x):
    return x + 174


def unused_175(x):
    return x + 175


def unused_176(x):
    return x + 176


def unused_177(x):
    return x + 177


def unused_178(x):
    return x + 178


def unused_179(x):
    return x + 179


def unused_180(x):
    return x + 180


def unused_181(x):
    return x + 181


def unused_182(x):
    return x + 182


def unused_183(x):
    return x + 183


def unused_184(x):
    return x + 184


def unused_185(x):
    return x + 185


def unused_186(x):
    return x + 186


def unused_187(x):
    return x + 187


def unused_188(x):
    return x + 188


def unused_189(x):
    return x + 189


def unused_190(x):
    return x + 190


def unused_191(x):
    return x + 191


def unused_192(x):
    return x + 192


def unused_193(x):
    return x + 193


def unused_194(x):
    return x + 194


def unused_195(x):
    return x + 195


def unused_196(x):
    return x + 196


def unused_197(x):
    return x + 197


def unused_198(x):
    return x + 198


def unused_199(x):
    return x + 199


def unused_200(x):
    return x + 200


def unused_201(x):
    return x + 201


def unused_202(x):
    return x + 202


def unused_203(x):
    return x + 203


def unused_204(x):
    return x + 204


def unused_205(x):
    return x + 205


def unused_206(x):
    return x + 206


def unused_207(x):
    return x + 207


def unused_208(x):
    return x + 208


def unused_209(x):
    return x + 209


def unused_210(x):
    return x + 210


def unused_211(x):
    return x + 211


def unused_212(x):
    return x + 212


def unused_213(x):
    return x + 213


def unused_214(x):
    return x + 214


def unused_215(x):
    return x + 215


def unused_216(x):
    return x + 216


def unused_217(x):
    return x + 217


def unused_218(x):
    return x + 218


def unused_219(x):
    return x + 219


def unused_220(x):
    return x + 220


def unused_221(x):
    return x + 221


def unused_222(x):
    return x + 222


def unused_223(x):
    return x + 223


def unused_224(x):
    return x + 224


def unused_225(x):
    return x + 225


def unused_226(x):
    return x + 226


def unused_227(x):
    return x + 227


def unused_228(x):
    return x + 228


def unused_229(x):
    return x + 229


def unused_230(x):
    return x + 230


def unused_231(x):
    return x + 231


def unused_232(x):
    return x + 232


def unused_233(x):
    return x + 233


def unused_234(x):
    return x + 234


def unused_235(x):
    return x + 235


def unused_236(x):
    return x + 236


def unused_237(x):
    return x + 237


def unused_238(x):
    return x + 238


def unused_239(x):
    return x + 239


def unused_240(x):
    return x + 240


def unused_241(x):
    return x + 241


def unused_242(x):
    return x + 242


def unused_243(x):
    return x + 243


def unused_244(x):
    return x + 244


def unused_245(x):
    return x + 245


def unused_246(x):
    return x + 246


def unused_247(x):
    return x + 247


def unused_248(x):
    return x + 248


def unused_249(x):
    return x + 249


def unused_250(x):
    return x + 250


def unused_251(x):
    return x + 251


def unused_252(x):
    return x + 252


def unused_253(x):
    return x + 253


def unused_254(x):
    return x + 254


def unused_255(x):
    return x + 255


def unused_256(x):
    return x + 256


def unused_257(x):
    return x + 257


def unused_258(x):
    return x + 258


def unused_259(x):
    return x + 259


def unused_260(x):
    return x + 260


def unused_261(x):
    return x + 261


def unused_262(x):
    return x + 262


def unused_263(x):
    return x + 263


def unused_264(x):
    return x + 264


def unused_265(x):
    return x + 265


def unused_266(x):
    return x + 266


def unused_267(x):
    return x + 267


def unused_268(x):
    return x + 268


def unused_269(x):
    return x + 269


def unused_270(x):
    return x + 270


def unused_271(x):
    return x + 271


def unused_272(x):
    return x + 272


def unused_273(x):
    return x + 273


def unused_274(x):
    return x + 274


def unused_275(x):
    return x + 275


def unused_276(x):
    return x + 276


def unused_277(x):
    return x + 277


def unused_278(x):
    return x + 278


def unused_279(x):
    return x + 279


def unused_280(x):
    return x + 280


def unused_281(x):
    return x + 281


def unused_282(x):
    return x + 282


def unused_283(x):
    return x + 283


def unused_284(x):
    return x + 284


def unused_285(x):
    return x + 285


def unused_286(x):
    return x + 286


def unused_287(x):
    return x + 287


def unused_288(x):
    return x + 288


def unused_289(x):
    return x + 289


def unused_290(x):
    return x + 290


def unused_291(x):
    return x + 291


def unused_292(x):
    return x + 292


def unused_293(x):
    return x + 293


def unused_294(x):
    return x + 294


def unused_295(x):
    return x + 295


def unused_296(x):
    return x + 296


def unused_297(x):
    return x + 297


def unused_298(x):
    return x + 298


def unused_299(x):
    return x + 299


def unused_300(x):
    return x + 300


def unused_301(x):
    return x + 301


def unused_302(x):
    return x + 302


def unused_303(x):
    return x + 303


def unused_304(x):
    return x + 304


def unused_305(x):
    return x + 305


def unused_306(x):
    return x + 306


def unused_307(x):
    return x + 307


def unused_308(x):
    return x + 308


def unused_309(x):
    return x + 309


def unused_310(x):
    return x + 310


def unused_311(x):
    return x + 311


def unused_312(x):
    return x + 312


def unused_313(x):
    return x + 313


def unused_314(x):
    return x + 314


def unused_315(x):
    return x + 315


def unused_316(x):
    return x + 316


def unused_317(x):
    return x + 317


def unused_318(x):
    return x + 318


def unused_319(x):
    return x + 319


def unused_320(x):
    return x + 320


def unused_321(x):
    return x + 321


def unused_322(x):
    return x + 322


def unused_323(x):
    return x + 323


def unused_324(x):
    return x + 324


def unused_325(x):
    return x + 325


def unused_326(x):
    return x + 326


def unused_327(x):
    return x + 327


def unused_328(x):
    return x + 328


def unused_329(x):
    return x + 329


def unused_330(x):
    return x + 330


def unused_331(x):
    return x + 331


def unused_332(x):
    return x + 332


def unused_333(x):
    return x + 333


def unused_334(x):
    return x + 334


def unused_335(x):
    return x + 335


def unused_336(x):
    return x + 336


def unused_337(x):
    return x + 337


def unused_338(x):
    return x + 338


def unused_339(x):
    return x + 339


def unused_340(x):
    return x + 340


def unused_341(x):
    return x + 341


def unused_342(x):
    return x + 342


def unused_343(x):
    return x + 343


def unused_344(x):
    return x + 344


def unused_345(x):
    return x + 345


def unused_346(x):
    return x + 346


def unused_347(x):
    return x + 347


def unused_348(x):
    return x + 348


def unused_349(x):
    return x + 349


def unused_350(x):
    return x + 350


def unused_351(x):
    return x + 351


def unused_352(x):
    return x + 352


def unused_353(x):
    return x + 353


def unused_354(x):
    return x + 354


def unused_355(x):
    return x + 355


def unused_356(x):
    return x + 356


def unused_357(x):
    return x + 357


def unused_358(x):
    return x + 358


def unused_359(x):
    return x + 359


def unused_360(x):
    return x + 360


def unused_361(x):
    return x + 361


def unused_362(x):
    return x + 362


def unused_363(x):
    return x + 363


def unused_364(x):
    return x + 364


def unused_365(x):
    return x + 365


def unused_366(x):
    return x + 366


def unused_367(x):
    return x + 367


def unused_368(x):
    return x + 368


def unused_369(x):
    return x + 369


def unused_370(x):
    return x + 370


def unused_371(x):
    return x + 371


def unused_372(x):
    return x + 372


def unused_373(x):
    return x + 373


def unused_374(x):
    return x + 374


def unused_375(x):
    return x + 375


def unused_376(x):
    return x + 376


def unused_377(x):
    return x + 377


def unused_378(x):
    return x + 378


def unused_379(x):
    return x + 379


def unused_380(x):
    return x + 380


def unused_381(x):
    return x + 381


def unused_382(x):
    return x + 382


def unused_383(x):
    return x + 383


def unused_384(x):
    return x + 384


def unused_385(x):
    return x + 385


def unused_386(x):
    return x + 386


def unused_387(x):
    return x + 387


def unused_388(x):
    return x + 388


def unused_389(x):
    return x + 389


def unused_390(x):
    return x + 390


def unused_391(x):
    return x + 391


def unused_392(x):
    return x + 392


def unused_393(x):
    return x + 393


def unused_394(x):
    return x + 394


def unused_395(x):
    return x + 395


def unused_396(x):
    return x + 396


def unused_397(x):
    return x + 397


def unused_398(x):
    return x + 398


def unused_399(x):
    return x + 399


def unused_400(x):
    return x + 400


def unused_401(x):
    return x + 401


def unused_402(x):
    return x + 402


def unused_403(x):
    return x + 403


def unused_404(x):
    return x + 404


def unused_405(x):
    return x + 405


def unused_406(x):
    return x + 406


def unused_407(x):
    return x + 407


def unused_408(x):
    return x + 408


def unused_409(x):
    return x + 409


def unused_410(x):
    return x + 410


def unused_411(x):
    return x + 411


def unused_412(x):
    return x + 412


def unused_413(x):
    return x + 413


def unused_414(x):
    return x + 414


def unused_415(x):
    return x + 415


def unused_416(x):
    return x + 416


def unused_417(x):
    return x + 417


def unused_418(x):
    return x + 418


def unused_419(x):
    return x + 419


def unused_420(x):
    return x + 420


def unused_421(x):
    return x + 421


def unused_422(x):
    return x + 422


def unused_423(x):
    return x + 423


def unused_424(x):
    return x + 424


def unused_425(x):
    return x + 425


def unused_426(x):
    return x + 426


def unused_427(x):
    return x + 427


def unused_428(x):
    return x + 428


def unused_429(x):
    return x + 429


def unused_430(x):
    return x + 430


def unused_431(x):
    return x + 431


def unused_432(x):
    return x + 432


def unused_433(x):
    return x + 433


def unused_434(x):
    return x + 434


def unused_435(x):
    return x + 435


def unused_436(x):
    return x + 436


def unused_437(x):
    return x + 437


def unused_438(x):
    return x + 438


def unused_439(x):
    return x + 439


def unused_440(x):
    return x + 440


def unused_441(x):
    return x + 441


def unused_442(x):
    return x + 442


def unused_443(x):
    return x + 443


def unused_444(x):
    return x + 444


def unused_445(x):
    return x + 445


def unused_446(x):
    return x + 446


def unused_447(x):
    return x + 447


def unused_448(x):
    return x + 448


def unused_449(x):
    return x + 449


def unused_450(x):
    return x + 450


def unused_451(x):
    return x + 451


def unused_452(x):
    return x + 452


def unused_453(x):
    return x + 453


def unused_454(x):
    return x + 454


def unused_455(x):
    return x + 455


def unused_456(x):
    return x + 456


def unused_457(x):
    return x + 457


def unused_458(x):
    return x + 458


def unused_459(x):
    return x + 459


def unused_460(x):
    return x + 460


def unused_461(x):
    return x + 461


def unused_462(x):
    return x + 462


def unused_463(x):
    return x + 463


def unused_464(x):
    return x + 464


def unused_465(x):
    return x + 465


def unused_466(x):
    return x + 466


def unused_467(x):
    return x + 467


def unused_468(x):
    return x + 468


def unused_469(x):
    return x + 469


def unused_470(x):
    return x + 470


def unused_471(x):
    return x + 471


def unused_472(x):
    return x + 472


def unused_473(x):
    return x + 473


def unused_474(x):
    return x + 474


def unused_475(x):
    return x + 475


def unused_476(x):
    return x + 476


def unused_477(x):
    return x + 477


def unused_478(x):
    return x + 478


def unused_479(x):
    return x + 479


def unused_480(x):
    return x + 480


def unused_481(x):
    return x + 481


def unused_482(x):
    return x + 482


def unused_483(x):
    return x + 483


def unused_484(x):
    return x + 484


def unused_485(x):
    return x + 485


def unused_486(x):
    return x + 486


def unused_487(x):
    return x + 487


def unused_488(x):
    return x + 488


def unused_489(x):
    return x + 489


def unused_490(x):
    return x + 490


def unused_491(x):
    return x + 491


def unused_492(x):
    return x + 492


def unused_493(x):
    return x + 493


def unused_494(x):
    return x + 494


def unused_495(x):
    return x + 495


def unused_496(x):
    return x + 496


def unused_497(x):
    return x + 497


def unused_498(x):
    return x + 498


def unused_499(x):
    return x + 499


def unused_500(x):
    return x + 500


def unused_501(x):
    return x + 501


def unused_502(x):
    return x + 502


def unused_503(x):
    return x + 503


def unused_504(x):
    return x + 504


def unused_505(x):
    return x + 505


def unused_506(x):
    return x + 506


def unused_507(x):
    return x + 507


def unused_508(x):
    return x + 508


def unused_509(x):
    return x + 509


def unused_510(x):
    return x + 510


def unused_511(x):
    return x + 511


def unused_512(x):
    return x + 512


def unused_513(x):
    return x + 513


def unused_514(x):
    return x + 514


def unused_515(x):
    return x + 515


def unused_516(x):
    return x + 516


def unused_517(x):
    return x + 517


def unused_518(x):
    return x + 518


def unused_519(x):
    return x + 519


def unused_520(x):
    return x + 520


def unused_521(x):
    return x + 521


def unused_522(x):
    return x + 522


def unused_523(x):
    return x + 523


def unused_524(x):
    return x + 524


def unused_525(x):
    return x + 525


def unused_526(x):
    return x + 526


def unused_527(x):
    return x + 527


def unused_528(x):
    return x + 528


def unused_529(x):
    return x + 529


def unused_530(x):
    return x + 530


def unused_531(x):
    return x + 531


def unused_532(x):
    return x + 532


def unused_533(x):
    return x + 533


def unused_534(x):
    return x + 534


def unused_535(x):
    return x + 535


def unused_536(x):
    return x + 536


def unused_537(x):
    return x + 537


def unused_538(x):
    return x + 538


def unused_539(x):
    return x + 539


def unused_540(x):
    return x + 540


def unused_541(x):
    return x + 541


def unused_542(x):
    return x + 542


def unused_543(x):
    return x + 543


def unused_544(x):
    return x + 544


def unused_545(x):
    return x + 545


def unused_546(x):
    return x + 546


def unused_547(x):
    return x + 547


def unused_548(x):
    return x + 548


def unused_549(x):
    return x + 549


def unused_550(x):
    return x + 550


def unused_551(x):
    return x + 551


def unused_552(x):
    return x + 552


def unused_553(x):
    return x + 553


def unused_554(x):
    return x + 554


def unused_555(x):
    return x + 555


def unused_556(x):
    return x + 556


def unused_557(x):
    return x + 557


def unused_558(x):
    return x + 558


def unused_559(x):
    return x + 559


def unused_560(x):
    return x + 560


def unused_561(x):
    return x + 561


def unused_562(x):
    return x + 562


def unused_563(x):
    return x + 563


def unused_564(x):
    return x + 564


def unused_565(x):
    return x + 565


def unused_566(x):
    return x + 566


def unused_567(x):
    return x + 567


def unused_568(x):
    return x + 568


def unused_569(x):
    return x + 569


def unused_570(x):
    return x + 570


def unused_571(x):
    return x + 571


def unused_572(x):
    return x + 572


def unused_573(x):
    return x + 573


def unused_574(x):
    return x + 574


def unused_575(x):
    return x + 575


def unused_576(x):
    return x + 576


def unused_577(x):
    return x + 577


def unused_578(x):
    return x + 578


def unused_579(x):
    return x + 579


def unused_580(x):
    return x + 580


def unused_581(x):
    return x + 581


def unused_582(x):
    return x + 582


def unused_583(x):
    return x + 583


def unused_584(x):
    return x + 584


def unused_585(x):
    return x + 585


def unused_586(x):
    return x + 586


def unused_587(x):
    return x + 587


def unused_588(x):
    return x + 588


def unused_589(x):
    return x + 589


def unused_590(x):
    return x + 590


def unused_591(x):
    return x + 591


def unused_592(x):
    return x + 592


def unused_593(x):
    return x + 593


def unused_594(x):
    return x + 594


def unused_595(x):
    return x + 595


def unused_596(x):
    return x + 596


def unused_597(x):
    return x + 597


def unused_598(x):
    return x + 598


def unused_599(x):
    return x + 599


def unused_600(x):
    return x + 600


def unused_601(x):
    return x + 601


def unused_602(x):
    return x + 602


def unused_603(x):
    return x + 603


def unused_604(x):
    return x + 604


def unused_605(x):
    return x + 605


def unused_606(x):
    return x + 606


def unused_607(x):
    return x + 607


def unused_608(x):
    return x + 608


def unused_609(x):
    return x + 609


def unused_610(x):
    return x + 610


def unused_611(x):
    return x + 611


def unused_612(x):
    return x + 612


def unused_613(x):
    return x + 613


def unused_614(x):
    return x + 614


def unused_615(x):
    return x + 615


def unused_616(x):
    return x + 616


def unused_617(x):
    return x + 617


def unused_618(x):
    return x + 618


def unused_619(x):
    return x + 619


def unused_620(x):
    return x + 620


def unused_621(x):
    return x + 621


def unused_622(x):
    return x + 622


def unused_623(x):
    return x + 623


def unused_624(x):
    return x + 624


def unused_625(x):
    return x + 625


def unused_626(x):
    return x + 626


def unused_627(x):
    return x + 627


def unused_628(x):
    return x + 628


def unused_629(x):
    return x + 629


def unused_630(x):
    return x + 630


def unused_631(x):
    return x + 631


def unused_632(x):
    return x + 632


def unused_633(x):
    return x + 633


def unused_634(x):
    return x + 634


def unused_635(x):
    return x + 635


def unused_636(x):
    return x + 636


def unused_637(x):
    return x + 637


def unused_638(x):
    return x + 638


def unused_639(x):
    return x + 639


def unused_640(x):
    return x + 640


def unused_641(x):
    return x + 641


def unused_642(x):
    return x + 642


def unused_643(x):
    return x + 643


def unused_644(x):
    return x + 644


def unused_645(x):
    return x + 645


def unused_646(x):
    return x + 646


def unused_647(x):
    return x + 647


def unused_648(x):
    return x + 648


def unused_649(x):
    return x + 649


def unused_650(x):
    return x + 650


def unused_651(x):
    return x + 651


def unused_652(x):
    return x + 652


def unused_653(x):
    return x + 653


def unused_654(x):
    return x + 654


def unused_655(x):
    return x + 655


def unused_656(x):
    return x + 656


def unused_657(x):
    return x + 657


def unused_658(x):
    return x + 658


def unused_659(x):
    return x + 659


def unused_660(x):
    return x + 660


def unused_661(x):
    return x + 661


def unused_662(x):
    return x + 662


def unused_663(x):
    return x + 663


def unused_664(x):
    return x + 664


def unused_665(x):
    return x + 665


def unused_666(x):
    return x + 666


def unused_667(x):
    return x + 667


def unused_668(x):
    return x + 668


def unused_669(x):
    return x + 669


def unused_670(x):
    return x + 670


def unused_671(x):
    return x + 671


def unused_672(x):
    return x + 672


def unused_673(x):
    return x + 673


def unused_674(x):
    return x + 674


def unused_675(x):
    return x + 675


def unused_676(x):
    return x + 676


def unused_677(x):
    return x + 677


def unused_678(x):
    return x + 678


def unused_679(x):
    return x + 679


def unused_680(x):
    return x + 680


def unused_681(x):
    return x + 681


def unused_682(x):
    return x + 682


def unused_683(x):
    return x + 683


def unused_684(x):
    return x + 684


def unused_685(x):
    return x + 685


def unused_686(x):
    return x + 686


def unused_687(x):
    return x + 687


def unused_688(x):
    return x + 688


def unused_689(x):
    return x + 689


def unused_690(x):
    return x + 690


def unused_691(x):
    return x + 691


def unused_692(x):
    return x + 692


def unused_693(x):
    return x + 693


def unused_694(x):
    return x + 694


def unused_695(x):
    return x + 695


def unused_696(x):
    return x + 696


def unused_697(x):
    return x + 697


def unused_698(x):
    return x + 698


def unused_699(x):
    return x + 699


def unused_700(x):
    return x + 700


def unused_701(x):
    return x + 701


def unused_702(x):
    return x + 702


def unused_703(x):
    return x + 703


def unused_704(x):
    return x + 704


def unused_705(x):
    return x + 705


def unused_706(x):
    return x + 706


def unused_707(x):
    return x + 707


def unused_708(x):
    return x + 708


def unused_709(x):
    return x + 709


def unused_710(x):
    return x + 710


def unused_711(x):
    return x + 711


def unused_712(x):
    return x + 712


def unused_713(x):
    return x + 713


def unused_714(x):
    return x + 714


def unused_715(x):
    return x + 715


def unused_716(x):
    return x + 716


def unused_717(x):
    return x + 717


def unused_718(x):
    return x + 718


def unused_719(x):
    return x + 719


def unused_720(x):
    return x + 720


def unused_721(x):
    return x + 721


def unused_722(x):
    return x + 722


def unused_723(x):
    return x + 723


def unused_724(x):
    return x + 724


def unused_725(x):
    return x + 725


def unused_726(x):
    return x + 726


def unused_727(x):
    return x + 727


def unused_728(x):
    return x + 728


def unused_729(x):
    return x + 729


def unused_730(x):
    return x + 730


def unused_731(x):
    return x + 731


def unused_732(x):
    return x + 732


def unused_733(x):
    return x + 733


def unused_734(x):
    return x + 734


def unused_735(x):
    return x + 735


def unused_736(x):
    return x + 736


def unused_737(x):
    return x + 737


def unused_738(x):
    return x + 738


def unused_739(x):
    return x + 739


def unused_740(x):
    return x + 740


def unused_741(x):
    return x + 741


def unused_742(x):
    return x + 742


def unused_743(x):
    return x + 743


def unused_744(x):
    return x + 744


def unused_745(x):
    return x + 745


def unused_746(x):
    return x + 746


def unused_747(x):
    return x + 747


def unused_748(x):
    return x + 748


def unused_749(x):
    return x + 749


def unused_750(x):
    return x + 750


def unused_751(x):
    return x + 751


def unused_752(x):
    return x + 752


def unused_753(x):
    return x + 753


def unused_754(x):
    return x + 754


def unused_755(x):
    return x + 755


def unused_756(x):
    return x + 756


def unused_757(x):
    return x + 757


def unused_758(x):
    return x + 758


def unused_759(x):
    return x + 759


def unused_760(x):
    return x + 760


def unused_761(x):
    return x + 761


def unused_762(x):
    return x + 762


def unused_763(x):
    return x + 763


def unused_764(x):
    return x + 764


def unused_765(x):
    return x + 765


def unused_766(x):
    return x + 766


def unused_767(x):
    return x + 767


def unused_768(x):
    return x + 768


def unused_769(x):
    return x + 769


def unused_770(x):
    return x + 770


def unused_771(x):
    return x + 771


def unused_772(x):
    return x + 772


def unused_773(x):
    return x + 773


def unused_774(x):
    return x + 774


def unused_775(x):
    return x + 775


def unused_776(x):
    return x + 776


def unused_777(x):
    return x + 777


def unused_778(x):
    return x + 778


def unused_779(x):
    return x + 779


def unused_780(x):
    return x + 780


def unused_781(x):
    return x + 781


def unused_782(x):
    return x + 782


def unused_783(x):
    return x + 783


def unused_784(x):
    return x + 784


def unused_785(x):
    return x + 785


def unused_786(x):
    return x + 786


def unused_787(x):
    return x + 787


def unused_788(x):
    return x + 788


def unused_789(x):
    return x + 789


def unused_790(x):
    return x + 790


def unused_791(x):
    return x + 791


def unused_792(x):
    return x + 792


def unused_793(x):
    return x + 793


def unused_794(x):
    return x + 794


def unused_795(x):
    return x + 795


def unused_796(x):
    return x + 796


def unused_797(x):
    return x + 797


def unused_798(x):
    return x + 798


def unused_799(x):
    return x + 799


def unused_800(x):
    return x + 800


def unused_801(x):
    return x + 801


def unused_802(x):
    return x + 802


def unused_803(x):
    return x + 803


def unused_804(x):
    return x + 804


def unused_805(x):
    return x + 805


def unused_806(x):
    return x + 806


def unused_807(x):
    return x + 807


def unused_808(x):
    return x + 808


def unused_809(x):
    return x + 809


def unused_810(x):
    return x + 810


def unused_811(x):
    return x + 811


def unused_812(x):
    return x + 812


def unused_813(x):
    return x + 813


def unused_814(x):
    return x + 814


def unused_815(x):
    return x + 815


def unused_816(x):
    return x + 816


def unused_817(x):
    return x + 817


def unused_818(x):
    return x + 818


def unused_819(x):
    return x + 819


def unused_820(x):
    return x + 820


def unused_821(x):
    return x + 821


def unused_822(x):
    return x + 822


def unused_823(x):
    return x + 823


def unused_824(x):
    return x + 824


def unused_825(x):
    return x + 825


def unused_826(x):
    return x + 826


def unused_827(x):
    return x + 827


def unused_828(x):
    return x + 828


def unused_829(x):
    return x + 829


def unused_830(x):
    return x + 830


def unused_831(x):
    return x + 831


def unused_832(x):
    return x + 832


def unused_833(x):
    return x + 833


def unused_834(x):
    return x + 834


def unused_835(x):
    return x + 835


def unused_836(x):
    return x + 836


def unused_837(x):
    return x + 837


def unused_838(x):
    return x + 838


def unused_839(x):
    return x + 839


def unused_840(x):
    return x + 840


def unused_841(x):
    return x + 841


def unused_842(x):
    return x + 842


def unused_843(x):
    return x + 843


def unused_844(x):
    return x + 844


def unused_845(x):
    return x + 845


def unused_846(x):
    return x + 846


def unused_847(x):
    return x + 847


def unused_848(x):
    return x + 848


def unused_849(x):
    return x + 849


def unused_850(x):
    return x + 850


def unused_851(x):
    return x + 851


def unused_852(x):
    return x + 852


def unused_853(x):
    return x + 853


def unused_854(x):
    return x + 854


def unused_855(x):
    return x + 855


def unused_856(x):
    return x + 856


def unused_857(x):
    return x + 857


def unused_858(x):
    return x + 858


def unused_859(x):
    return x + 859


def unused_860(x):
    return x + 860


def unused_861(x):
    return x + 861


def unused_862(x):
    return x + 862


def unused_863(x):
    return x + 863


def unused_864(x):
    return x + 864


def unused_865(x):
    return x + 865


def unused_866(x):
    return x + 866


def unused_867(x):
    return x + 867


def unused_868(x):
    return x + 868


def unused_869(x):
    return x + 869


def unused_870(x):
    return x + 870


def unused_871(x):
    return x + 871


def unused_872(x):
    return x + 872


def unused_873(x):
    return x + 873


def unused_874(x):
    return x + 874


def unused_875(x):
    return x + 875


def unused_876(x):
    return x + 876


def unused_877(x):
    return x + 877


def unused_878(x):
    return x + 878


def unused_879(x):
    return x + 879


def unused_880(x):
    return x + 880


def unused_881(x):
    return x + 881


def unused_882(x):
    return x + 882


def unused_883(x):
    return x + 883


def unused_884(x):
    return x + 884


def unused_885(x):
    return x + 885


def unused_886(x):
    return x + 886


def unused_887(x):
    return x + 887


def unused_888(x):
    return x + 888


def unused_889(x):
    return x + 889


def unused_890(x):
    return x + 890


def unused_891(x):
    return x + 891


def unused_892(x):
    return x + 892


def unused_893(x):
    return x + 893


def unused_894(x):
    return x + 894


def unused_895(x):
    return x + 895


def unused_896(x):
    return x + 896


def unused_897(x):
    return x + 897


def unused_898(x):
    return x + 898


def unused_899(x):
    return x + 899


def unused_900(x):
    return x + 900


def unused_901(x):
    return x + 901


def unused_902(x):
    return x + 902


def unused_903(x):
    return x + 903


def unused_904(x):
    return x + 904


def unused_905(x):
    return x + 905


def unused_906(x):
    return x + 906


def unused_907(x):
    return x + 907


def unused_908(x):
    return x + 908


def unused_909(x):
    return x + 909


def unused_910(x):
    return x + 910


def unused_911(x):
    return x + 911


def unused_912(x):
    return x + 912


def unused_913(x):
    return x + 913


def unused_914(x):
    return x + 914


def unused_915(x):
    return x + 915


def unused_916(x):
    return x + 916


def unused_917(x):
    return x + 917


def unused_918(x):
    return x + 918


def unused_919(x):
    return x + 919


def unused_920(x):
    return x + 920


def unused_921(x):
    return x + 921


def unused_922(x):
    return x + 922


def unused_923(x):
    return x + 923


def unused_924(x):
    return x + 924


def unused_925(x):
    return x + 925


def unused_926(x):
    return x + 926


def unused_927(x):
    return x + 927


def unused_928(x):
    return x + 928


def unused_929(x):
    return x + 929


def unused_930(x):
    return x + 930


def unused_931(x):
    return x + 931


def unused_932(x):
    return x + 932


def unused_933(x):
    return x + 933


def unused_934(x):
    return x + 934


def unused_935(x):
    return x + 935


def unused_936(x):
    return x + 936


def unused_937(x):
    return x + 937


def unused_938(x):
    return x + 938


def unused_939(x):
    return x + 939


def unused_940(x):
    return x + 940


def unused_941(x):
    return x + 941


def unused_942(x):
    return x + 942


def unused_943(x):
    return x + 943


def unused_944(x):
    return x + 944


def unused_945(x):
    return x + 945


def unused_946(x):
    return x + 946


def unused_947(x):
    return x + 947


def unused_948(x):
    return x + 948


def unused_949(x):
    return x + 949


def unused_950(x):
    return x + 950


def unused_951(x):
    return x + 951


def unused_952(x):
    return x + 952


def unused_953(x):
    return x + 953


def unused_954(x):
    return x + 954


def unused_955(x):
    return x + 955


def unused_956(x):
    return x + 956


def unused_957(x):
    return x + 957


def unused_958(x):
    return x + 958


def unused_959(x):
    return x + 959


def unused_960(x):
    return x + 960


def unused_961(x):
    return x + 961


def unused_962(x):
    return x + 962


def unused_963(x):
    return x + 963


def unused_964(x):
    return x + 964


def unused_965(x):
    return x + 965


def unused_966(x):
    return x + 966


def unused_967(x):
    return x + 967


def unused_968(x):
    return x + 968


def unused_969(x):
    return x + 969


def unused_970(x):
    return x + 970


def unused_971(x):
    return x + 971


def unused_972(x):
    return x + 972


def unused_973(x):
    return x + 973


def unused_974(x):
    return x + 974


def unused_975(x):
    return x + 975


def unused_976(x):
    return x + 976


def unused_977(x):
    return x + 977


def unused_978(x):
    return x + 978


def unused_979(x):
    return x + 979


def unused_980(x):
    return x + 980


def unused_981(x):
    return x + 981


def unused_982(x):
    return x + 982


def unused_983(x):
    return x + 983


def unused_984(x):
    return x + 984


def unused_985(x):
    return x + 985


def unused_986(x):
    return x + 986


def unused_987(x):
    return x + 987


def unused_988(x):
    return x + 988


def unused_989(x):
    return x + 989


def unused_990(x):
    return x + 990


def unused_991(x):
    return x + 991


def unused_992(x):
    return x + 992


def unused_993(x):
    return x + 993


def unused_994(x):
    return x + 994


def unused_995(x):
    return x + 995


def unused_996(x):
    return x + 996


def unused_997(x):
    return x + 997


def unused_998(x):
    return x + 998


def unused_999(x):
    return x + 999


def unused_1000(x):
    return x + 1000


def unused_1001(x):
    return x + 1001


def unused_1002(x):
    return x + 1002


def unused_1003(x):
    return x + 1003


def unused_1004(x):
    return x + 1004


def unused_1005(x):
    return x + 1005


def unused_1006(x):
    return x + 1006


def unused_1007(x):
    return x + 1007


def unused_1008(x):
    return x + 1008


def unused_1009(x):
    return x + 1009


def unused_1010(x):
    return x + 1010


def unused_1011(x):
    return x + 1011


def unused_1012(x):
    return x + 1012


def unused_1013(x):
    return x + 1013


def unused_1014(x):
    return x + 1014


def unused_1015(x):
    return x + 1015


def unused_1016(x):
    return x + 1016


def unused_1017(x):
    return x + 1017


def unused_1018(x):
    return x + 1018


def unused_1019(x):
    return x + 1019


def unused_1020(x):
    return x + 1020


def unused_1021(x):
    return x + 1021


def unused_1022(x):
    return x + 1022


def unused_1023(x):
    return x + 1023


def unused_1024(x):
    return x + 1024


def unused_1025(x):
    return x + 1025


def unused_1026(x):
    return x + 1026


def unused_1027(x):
    return x + 1027


def unused_1028(x):
    return x + 1028


def unused_1029(x):
    return x + 1029


def unused_1030(x):
    return x + 1030


def unused_1031(x):
    return x + 1031


def unused_1032(x):
    return x + 1032


def unused_1033(x):
    return x + 1033


def unused_1034(x):
    return x + 1034


def unused_1035(x):
    return x + 1035


def unused_1036(x):
    return x + 1036


def unused_1037(x):
    return x + 1037


def unused_1038(x):
    return x + 1038


def unused_1039(x):
    return x + 1039


def unused_1040(x):
    return x + 1040


def unused_1041(x):
    return x + 1041


def unused_1042(x):
    return x + 1042


def unused_1043(x):
    return x + 1043


def unused_1044(x):
    return x + 1044


def unused_1045(x):
    return x + 1045


def unused_1046(x):
    return x + 1046


def unused_1047(x):
    return x + 1047


def unused_1048(x):
    return x + 1048


def unused_1049(x):
    return x + 1049


def unused_1050(x):
    return x + 1050


def unused_1051(x):
    return x + 1051


def unused_1052(x):
    return x + 1052


def unused_1053(x):
    return x + 1053


def unused_1054(x):
    return x + 1054


def unused_1055(x):
    return x + 1055


def unused_1056(x):
    return x + 1056


def unused_1057(x):
    return x + 1057


def unused_1058(x):
    return x + 1058


def unused_1059(x):
    return x + 1059


def unused_1060(x):
    return x + 1060


def unused_1061(x):
    return x + 1061


def unused_1062(x):
    return x + 1062


def unused_1063(x):
    return x + 1063


def unused_1064(x):
    return x + 1064


def unused_1065(x):
    return x + 1065


def unused_1066(x):
    return x + 1066


def unused_1067(x):
    return x + 1067


def unused_1068(x):
    return x + 1068


def unused_1069(x):
    return x + 1069


def unused_1070(x):
    return x + 1070


def unused_1071(x):
    return x + 1071


def unused_1072(x):
    return x + 1072


def unused_1073(x):
    return x + 1073


def unused_1074(x):
    return x + 1074


def unused_1075(x):
    return x + 1075


def unused_1076(x):
    return x + 1076


def unused_1077(x):
    return x + 1077


def unused_1078(x):
    return x + 1078


def unused_1079(x):
    return x + 1079


def unused_1080(x):
    return x + 1080


def unused_1081(x):
    return x + 1081


def unused_1082(x):
    return x + 1082


def unused_1083(x):
    return x + 1083


def unused_1084(x):
    return x + 1084


def unused_1085(x):
    return x + 1085


def unused_1086(x):
    return x + 1086


def unused_1087(x):
    return x + 1087


def unused_1088(x):
    return x + 1088


def unused_1089(x):
    return x + 1089


def unused_1090(x):
    return x + 1090


def unused_1091(x):
    return x + 1091


def unused_1092(x):
    return x + 1092


def unused_1093(x):
    return x + 1093


def unused_1094(x):
    return x + 1094


def unused_1095(x):
    return x + 1095


def unused_1096(x):
    return x + 1096


def unused_1097(x):
    return x + 1097


def unused_1098(x):
    return x + 1098


def unused_1099(x):
    return x + 1099


def unused_1100(x):
    return x + 1100


def unused_1101(x):
    return x + 1101


def unused_1102(x):
    return x + 1102


def unused_1103(x):
    return x + 1103


def unused_1104(x):
    return x + 1104


def unused_1105(x):
    return x + 1105


def unused_1106(x):
    return x + 1106


def unused_1107(x):
    return x + 1107


def unused_1108(x):
    return x + 1108


def unused_1109(x):
    return x + 1109


def unused_1110(x):
    return x + 1110


def unused_1111(x):
    return x + 1111


def unused_1112(x):
    return x + 1112


def unused_1113(x):
    return x + 1113


def unused_1114(x):
    return x + 1114


def unused_1115(x):
    return x + 1115


def unused_1116(x):
    return x + 1116


def unused_1117(x):
    return x + 1117


def unused_1118(x):
    return x + 1118


def unused_1119(x):
    return x + 1119


def unused_1120(x):
    return x + 1120


def unused_1121(x):
    return x + 1121


def unused_1122(x):
    return x + 1122


def unused_1123(x):
    return x + 1123


def unused_1124(x):
    return x + 1124


def unused_1125(x):
    return x + 1125


def unused_1126(x):
    return x + 1126


def unused_1127(x):
    return x + 1127


def unused_1128(x):
    return x + 1128


def unused_1129(x):
    return x + 1129


def unused_1130(x):
    return x + 1130


def unused_1131(x):
    return x + 1131


def unused_1132(x):
    return x + 1132


def unused_1133(x):
    return x + 1133


def unused_1134(x):
    return x + 1134


def unused_1135(x):
    return x + 1135


def unused_1136(x):
    return x + 1136


def unused_1137(x):
    return x + 1137


def unused_1138(x):
    return x + 1138


def unused_1139(x):
    return x + 1139


def unused_1140(x):
    return x + 1140


def unused_1141(x):
    return x + 1141


def unused_1142(x):
    return x + 1142


def unused_1143(x):
    return x + 1143


def unused_1144(x):
    return x + 1144


def unused_1145(x):
    return x + 1145


def unused_1146(x):
    return x + 1146


def unused_1147(x):
    return x + 1147


def unused_1148(x):
    return x + 1148


def unused_1149(x):
    return x + 1149


def unused_1150(x):
    return x + 1150


def unused_1151(x):
    return x + 1151


def unused_1152(x):
    return x + 1152


def unused_1153(x):
    return x + 1153


def unused_1154(x):
    return x + 1154


def unused_1155(x):
    return x + 1155


def unused_1156(x):
    return x + 1156


def unused_1157(x):
    return x + 1157


def unused_1158(x):
    return x + 1158


def unused_1159(x):
    return x + 1159


def unused_1160(x):
    return x + 1160


def unused_1161(x):
    return x + 1161


def unused_1162(x):
    return x + 1162


def unused_1163(x):
    return x + 1163


def unused_1164(x):
    return x + 1164


def unused_1165(x):
    return x + 1165


def unused_1166(x):
    return x + 1166


def unused_1167(x):
    return x + 1167


def unused_1168(x):
    return x + 1168


def unused_1169(x):
    return x + 1169


def unused_1170(x):
    return x + 1170


def unused_1171(x):
    return x + 1171


def unused_1172(x):
    return x + 1172


def unused_1173(x):
    return x + 1173


def unused_1174(x):
    return x + 1174


def unused_1175(x):
    return x + 1175


def unused_1176(x):
    return x + 1176


def unused_1177(x):
    return x + 1177


def unused_1178(x):
    return x + 1178


def unused_1179(x):
    return x + 1179


def unused_1180(x):
    return x + 1180


def unused_1181(x):
    return x + 1181


def unused_1182(x):
    return x + 1182


def unused_1183(x):
    return x + 1183


def unused_1184(x):
    return x + 1184


def unused_1185(x):
    return x + 1185


def unused_1186(x):
    return x + 1186


def unused_1187(x):
    return x + 1187


def unused_1188(x):
    return x + 1188


def unused_1189(x):
    return x + 1189


def unused_1190(x):
    return x + 1190


def unused_1191(x):
    return x + 1191


def unused_1192(x):
    return x + 1192


def unused_1193(x):
    return x + 1193


def unused_1194(x):
    return x + 1194


def unused_1195(x):
    return x + 1195


def unused_1196(x):
    return x + 1196


def unused_1197(x):
    return x + 1197


def unused_1198(x):
    return x + 1198


def unused_1199(x):
    return x + 1199


def unused_1200(x):
    return x + 1200


def unused_1201(x):
    return x + 1201


def unused_1202(x):
    return x + 1202


def unused_1203(x):
    return x + 1203


def unused_1204(x):
    return x + 1204


def unused_1205(x):
    return x + 1205


def unused_1206(x):
    return x + 1206


def unused_1207(x):
    return x + 1207


def unused_1208(x):
    return x + 1208


def unused_1209(x):
    return x + 1209


def unused_1210(x):
    return x + 1210


def unused_1211(x):
    return x + 1211


def unused_1212(x):
    return x + 1212


def unused_1213(x):
    return x + 1213


def unused_1214(x):
    return x + 1214


def unused_1215(x):
    return x + 1215


def unused_1216(x):
    return x + 1216


def unused_1217(x):
    return x + 1217


def unused_1218(x):
    return x + 1218


def unused_1219(x):
    return x + 1219


def unused_1220(x):
    return x + 1220


def unused_1221(x):
    return x + 1221


def unused_1222(x):
    return x + 1222


def unused_1223(x):
    return x + 1223


def unused_1224(x):
    return x + 1224


def unused_1225(x):
    return x + 1225


def unused_1226(x):
    return x + 1226


def unused_1227(x):
    return x + 1227


def unused_1228(x):
    return x + 1228


def unused_1229(x):
    return x + 1229


def unused_1230(x):
    return x + 1230


def unused_1231(x):
    return x + 1231


def unused_1232(x):
    return x + 1232


def unused_1233(x):
    return x + 1233


def unused_1234(x):
    return x + 1234


def unused_1235(x):
    return x + 1235


def unused_1236(x):
    return x + 1236


def unused_1237(x):
    return x + 1237


def unused_1238(x):
    return x + 1238


def unused_1239(x):
    return x + 1239


def unused_1240(x):
    return x + 1240


def unused_1241(x):
    return x + 1241


def unused_1242(x):
    return x + 1242


def unused_1243(x):
    return x + 1243


def unused_1244(x):
    return x + 1244


def unused_1245(x):
    return x + 1245


def unused_1246(x):
    return x + 1246


def unused_1247(x):
    return x + 1247


def unused_1248(x):
    return x + 1248


def unused_1249(x):
    return x + 1249
